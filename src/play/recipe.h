/* A recipe: the settings of a run, read from YAML through option tables.
 *
 * Sections: the top level, `data`, `generate` (the sampling options), `evaluate`, `judge`, `lora`,
 * `train` (defaults of all arms) and `arms`, a list; an arm may override any setting of `train`. An
 * unknown key is refused, naming the nearest known one.
 */
#ifndef SP_PLAY_RECIPE_H
#define SP_PLAY_RECIPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "model/lora.h"
#include "spar/generate.h"
#include "spar/judge.h"
#include "spar/method.h"
#include "spar/options.h"
#include "train/objective.h"
#include "train/schedule.h"

/* Where prompts and real responses come from: task families, or a file of the user's own. */
typedef struct sp_recipe_data {
    spar_option_list families;   /* "sort_numbers" or "sort_numbers:4" with a difficulty */
    const char *file;            /* as eval/dataset.h reads it */
    const char *system;          /* system message put before every prompt; NULL: none */
    int64_t train, gate, report; /* problems in each set */
} sp_recipe_data;

typedef struct sp_recipe_evaluate {
    int64_t max_new_tokens, batch;
} sp_recipe_evaluate;

/* Judges, as spar_judge_open takes them; NULL: none. */
typedef struct sp_recipe_judge {
    const char *train;                  /* of the samples of the arms that compare them */
    const char *report;                 /* of the report set's responses, against the base's */
    const char *prompt, *report_prompt; /* how either is asked, where it is a language model */
    int64_t explain;
    spar_step_rules process;
    double tau;
    spar_endpoint endpoint;
    const char *report_endpoint; /* NULL: the same */
    bool same;                   /* they may be one */
    double time_limit;
    int64_t memory_limit;
} sp_recipe_judge;

/* What of a problem's responses is learned from. */
typedef enum sp_pairing {
    SP_PAIR_AUTO,     /* what suits the method and the data; replaced when the recipe is read */
    SP_PAIR_REAL,     /* the real response against each generated one (SPIN) */
    SP_PAIR_VERIFIED, /* right responses against wrong ones, by the family's checker */
    SP_PAIR_JUDGED,   /* the best against the worst by win rate */
    SP_PAIR_ALL,      /* all responses together, by win rate or reward */
    SP_PAIR_STEPS,    /* the two that a process reward model tells apart most at a step */
    SP_PAIR_SINGLE    /* each by itself, good or bad; not by name: KTO's own */
} sp_pairing;

/* One arm: a sequence of iterations with one method. */
typedef struct sp_arm {
    const char *name;
    const char *method;  /* an objective's name */
    const char *from;    /* the arm whose end it starts from; NULL: the best so far */
    const char *against; /* the arm that the report holds it against; NULL: none */
    int from_arm;        /* index of `from`; -1: none */
    int shares;          /* the earlier arm whose first samples it takes over; -1: its own */
    int pairing;         /* sp_pairing; sft: real, verified, or auto for supervised epochs */
    double min_margin;   /* judged pairs: win rates at least so far apart */
    int64_t patience;    /* end after so many iterations in a row that were thrown away; 0: never */
    int64_t iterations;  /* sft: epochs, ended early when the gate set stops rising */
    int64_t epochs;      /* passes over the pairs of an iteration */
    int64_t samples;     /* responses a prompt */
    int64_t pairs_per_prompt; /* verified and judged pairing: at most this many */
    int opponents;            /* sp_opponents: who samples */
    int64_t pool;             /* models to draw them from at most */
    int64_t fresh;            /* so many new problems each iteration (task families); 0: none */
    double mix_previous;      /* share of the last iteration's synthetic data mixed in; SPIN: 1 */
    int control;              /* sp_control */
    double control_lr;
    const char *control_optimizer;
    int64_t batch, max_tokens;
    bool recompute; /* activations again in the backward */
    const char *optimizer, *schedule;
    double lr, warmup_ratio;
    double params[SPAR_PARAM_COUNT]; /* of the objective, as given */
    double balance; /* weight of a mixture's load-balancing loss; below 0: the model's own */
    double weight_decay, max_grad_norm, adam_beta1, adam_beta2, adam_eps, rms_alpha;
    bool exact_reference; /* score the opponent by the trainer's own pass, not by the sampler's */
    bool sequence_mean;
    sp_objective objective; /* found from method, with its parameters */
} sp_arm;

/* Whether samples are judged: by the recipe's judge, or by the checkers of task families. */
static inline bool sp_arm_compares(const sp_arm *arm) {
    return arm->objective.kind != SP_OBJECTIVE_SFT && arm->pairing != SP_PAIR_REAL &&
           arm->pairing != SP_PAIR_VERIFIED;
}

/* Whether the arm plays: iterations of samples, in place of supervised epochs. SFT does where it is
 * told what to learn from. */
static inline bool sp_arm_plays(const sp_arm *arm) {
    return arm->objective.kind != SP_OBJECTIVE_SFT || arm->pairing != SP_PAIR_AUTO;
}

typedef enum sp_control { SP_CONTROL_NONE, SP_CONTROL_LABELLED, SP_CONTROL_VERIFIED } sp_control;

enum { SP_RECIPE_MAX_ARMS = 16 };

typedef struct sp_recipe {
    const char *name, *model, *template_path;
    const char *template_text; /* chat_template: the template itself */
    int64_t seed;
    int weights;              /* spar_weights: how the matrices are kept */
    int64_t checkpoint_steps; /* trainer state every this many steps; 0: at epoch ends only */
    bool keep_checkpoints;    /* keep those that were superseded too */
    double gate_margin;       /* a candidate is kept when it beats the best by more than this */
    sp_recipe_data data;
    spar_sampling sampling;
    sp_recipe_evaluate evaluate;
    sp_recipe_judge judge;
    sp_lora_settings lora; /* rank 0: all weights are trained */
    sp_arm arms[SP_RECIPE_MAX_ARMS];
    int n_arms;
    json_t *root; /* owned: all strings point into it */
} sp_recipe;

spar_status sp_recipe_load(sp_recipe *out, const char *path, spar_error *err);
void sp_recipe_release(sp_recipe *recipe);

#endif
