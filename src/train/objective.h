/* What training lowers, by name: supervised fine-tuning, KTO, or a row of one of the two tables
 * (loss.h, policy_gradient.h), with its parameters.
 */
#ifndef SP_TRAIN_OBJECTIVE_H
#define SP_TRAIN_OBJECTIVE_H

#include "spar/method.h"
#include "train/loss.h"
#include "train/loss_label.h"
#include "train/policy_gradient.h"

typedef enum sp_objective_kind {
    SP_OBJECTIVE_SFT,       /* "sft": likelihood of one response */
    SP_OBJECTIVE_LABELLED,  /* "kto": one response, good or bad */
    SP_OBJECTIVE_RESPONSES, /* a row of the loss table */
    SP_OBJECTIVE_TOKENS     /* a row of the table of policy gradients */
} sp_objective_kind;

enum { SP_OBJECTIVE_MAX_PARAMS = SP_LOSS_MAX_PARAMS };

typedef struct sp_objective {
    sp_objective_kind kind;
    const char *name;                   /* static */
    const sp_loss *loss;                /* of that kind; else NULL */
    const sp_policy_gradient *gradient; /* of that kind; else NULL */
    const sp_tunable *tunables;         /* static; empty for SFT */
    double params[SP_OBJECTIVE_MAX_PARAMS];
} sp_objective;

int sp_objective_count(void);
const char *sp_objective_name_at(int i); /* all names, 0 <= i < sp_objective_count() */

/* The objective called name with its own parameters; an unknown name is refused with the nearest
 * known one. */
spar_status sp_objective_find(sp_objective *out, const char *name, spar_error *err);

/* A parameter by its name: INVALID for one that the objective has not, and out of its bounds. */
spar_status sp_objective_set(sp_objective *o, const char *param, double value, spar_error *err);

/* All parameters that are given: values [SPAR_PARAM_COUNT], SPAR_PARAM_OWN where one is not. */
spar_status sp_objective_set_given(sp_objective *o, const double *values, spar_error *err);

/* SP_READS_..., with the parameters as they are: a policy gradient without a pull reads no anchor.
 */
unsigned sp_objective_reads(const sp_objective *o);

/* Responses of a prompt that the objective takes: at least *fewest, at most *most. */
void sp_objective_responses(const sp_objective *o, size_t *fewest, size_t *most);

/* Whether every response adds to the loss by itself, whatever the log-probs of the others: an
 * example may then be computed in parts. */
bool sp_objective_separates(const sp_objective *o);

#endif
