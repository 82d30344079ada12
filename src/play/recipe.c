#include "play/recipe.h"

#include <string.h>

#include "base/jsonx.h"
#include "eval/families.h"
#include "judge/kind.h"
#include "play/league.h"
#include "spar/play.h"
#include "train/optimizer.h"

#define DATA(field) offsetof(sp_recipe_data, field)
static const spar_option data_options[] = {
    {"families", 0, SPAR_OPTION_LIST, DATA(families), NULL, 0, 0, NULL, "NAME",
     "task families, each with an optional difficulty: sort_numbers:4"},
    {"file", 0, SPAR_OPTION_STRING, DATA(file), NULL, 0, 0, NULL, "FILE",
     "prompts and real responses of your own: messages, prompt/completion or Alpaca rows"},
    {"system", 0, SPAR_OPTION_STRING, DATA(system), NULL, 0, 0, NULL, "TEXT",
     "system message before every prompt"},
    {"train", 0, SPAR_OPTION_INT, DATA(train), "240", 1, 1e9, NULL, "N", "training problems"},
    {"gate", 0, SPAR_OPTION_INT, DATA(gate), "200", 2, 1e9, NULL, "N",
     "held-out problems that decide which iteration is kept"},
    {"report", 0, SPAR_OPTION_INT, DATA(report), "400", 2, 1e9, NULL, "N",
     "other held-out problems, that the report measures on"},
    {0}};

#define EVALUATE(field) offsetof(sp_recipe_evaluate, field)
static const spar_option evaluate_options[] = {
    {"max-new-tokens", 0, SPAR_OPTION_INT, EVALUATE(max_new_tokens), "64", 1, 1 << 24, NULL, "N",
     "longest response of an evaluation, in tokens"},
    {"batch", 0, SPAR_OPTION_INT, EVALUATE(batch), "64", 1, 4096, NULL, "N", "sequences in flight"},
    {0}};

#define JUDGE(field) offsetof(sp_recipe_judge, field)
static const spar_option judge_options[] = {
    {"train", 0, SPAR_OPTION_STRING, JUDGE(train), NULL, 0, 0, NULL, "KIND[:MODEL]",
     "judge of the samples of arms with pairs: judged, as spar judge has it: reward:FOLDER"},
    {"report", 0, SPAR_OPTION_STRING, JUDGE(report), NULL, 0, 0, NULL, "KIND[:MODEL]",
     "another judge, that measures: win rates against the base's responses on the report set"},
    {"same", 0, SPAR_OPTION_FLAG, JUDGE(same), "false", 0, 0, NULL, NULL,
     "let the judge that trains be the one that reports; the report's first line says so"},
    {"prompt", 0, SPAR_OPTION_STRING, JUDGE(prompt), "pairwise", 0, 0, NULL, "NAME",
     "how an llm that trains is asked, as spar judge --prompt has it"},
    {"report-prompt", 0, SPAR_OPTION_STRING, JUDGE(report_prompt), "pairwise", 0, 0, NULL, "NAME",
     "how an llm that reports is asked"},
    {"explain", 0, SPAR_OPTION_INT, JUDGE(explain), "0", 0, 1 << 20, NULL, "N",
     "tokens that an llm may write before a verdict in brackets"},
    SPAR_STEP_ROWS(sp_recipe_judge, process),
    {"tau", 0, SPAR_OPTION_NUMBER, JUDGE(tau), "0.1", 1e-6, 1e6, NULL, "X",
     "what a general preference model's score is divided by"},
    SPAR_ENDPOINT_ROWS(sp_recipe_judge, endpoint),
    {"report-endpoint", 0, SPAR_OPTION_STRING, JUDGE(report_endpoint), NULL, 0, 0, NULL, "URL",
     "another endpoint for the judge that reports"},
    {"time-limit", 0, SPAR_OPTION_NUMBER, JUDGE(time_limit), "10", 0.01, 86400, NULL, "SECONDS",
     "longest that a program may take for the responses to a prompt"},
    {"memory-limit", 0, SPAR_OPTION_INT, JUDGE(memory_limit), "1024", 1, 1 << 24, NULL, "MIB",
     "most memory that a program's process may map"},
    {0}};

#define LORA(field) offsetof(sp_lora_settings, field)
static const spar_option lora_options[] = {
    {"rank", 0, SPAR_OPTION_INT, LORA(rank), "0", 0, 4096, NULL, "N",
     "train an adapter of this rank instead of the weights; 0: the weights"},
    {"alpha", 0, SPAR_OPTION_NUMBER, LORA(alpha), "16", 1e-6, 1e6, NULL, "X",
     "scale of the adapter, divided by its rank"},
    {"rslora", 0, SPAR_OPTION_FLAG, LORA(rslora), "false", 0, 0, NULL, NULL,
     "divide by the square root of the rank instead"},
    {"dora", 0, SPAR_OPTION_FLAG, LORA(dora), "false", 0, 0, NULL, NULL,
     "a magnitude for each output beside the adapter's direction (DoRA)"},
    {"dropout", 0, SPAR_OPTION_NUMBER, LORA(dropout), "0", 0, 0.99, NULL, "P",
     "dropout of the adapter's inputs in training"},
    {"targets", 0, SPAR_OPTION_LIST, LORA(targets), NULL, 0, 0, NULL, "NAME",
     "matrices to adapt: q_proj, k_proj, ..., or the checkpoint's own names; none: all linear "
     "layers but the output projection and those of mixtures, which all-linear has too"},
    {0}};

/* The settings of `train`, which an arm may override. */
#define ARM(field) offsetof(sp_arm, field)
#define TRAIN_OPTIONS                                                                              \
    {"batch", 0, SPAR_OPTION_INT, ARM(batch), "16", 1, 1e6, NULL, "N", "examples a step"},         \
        {"max-tokens",                                                                             \
         0,                                                                                        \
         SPAR_OPTION_INT,                                                                          \
         ARM(max_tokens),                                                                          \
         "1024",                                                                                   \
         1,                                                                                        \
         1 << 24,                                                                                  \
         NULL,                                                                                     \
         "N",                                                                                      \
         "rows of a packed micro-batch"},                                                          \
        {"recompute",                                                                              \
         0,                                                                                        \
         SPAR_OPTION_FLAG,                                                                         \
         ARM(recompute),                                                                           \
         "false",                                                                                  \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL,                                                                                     \
         "keep only each layer's input and make the rest again in the backward: less memory, a "   \
         "quarter more work"},                                                                     \
        {"balance",                                                                                \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         ARM(balance),                                                                             \
         "-1",                                                                                     \
         -1,                                                                                       \
         1e3,                                                                                      \
         NULL,                                                                                     \
         "X",                                                                                      \
         "weight of the load-balancing loss of a mixture of experts; -1: router_aux_loss_coef "    \
         "where the model's configuration has output_router_logits, else 0"},                      \
        {"optimizer", 0,      SPAR_OPTION_STRING, ARM(optimizer), "adamw", 0, 0,                   \
         NULL,        "NAME", "adamw or rmsprop"},                                                 \
        {"lr", 0, SPAR_OPTION_NUMBER, ARM(lr), "1e-5", 0, 1, NULL, "X", "peak learning rate"},     \
        {"schedule", 0,      SPAR_OPTION_STRING,          ARM(schedule), "linear", 0, 0,           \
         NULL,       "NAME", "constant, linear or cosine"},                                        \
        {"warmup-ratio",                                                                           \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         ARM(warmup_ratio),                                                                        \
         "0.1",                                                                                    \
         0,                                                                                        \
         1,                                                                                        \
         NULL,                                                                                     \
         "X",                                                                                      \
         "share of the steps in which the learning rate rises"},                                   \
        {"weight-decay",                                                                           \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         ARM(weight_decay),                                                                        \
         "0",                                                                                      \
         0,                                                                                        \
         1,                                                                                        \
         NULL,                                                                                     \
         "X",                                                                                      \
         "decoupled weight decay on matrices"},                                                    \
        {"max-grad-norm",                                                                          \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         ARM(max_grad_norm),                                                                       \
         "1",                                                                                      \
         0,                                                                                        \
         1e9,                                                                                      \
         NULL,                                                                                     \
         "X",                                                                                      \
         "clip the gradient to this norm; 0: never"},                                              \
        {"adam-beta1", 0,   SPAR_OPTION_NUMBER,   ARM(adam_beta1), "0.9", 0, 0.999999,             \
         NULL,         "X", "AdamW's first decay"},                                                \
        {"adam-beta2", 0,   SPAR_OPTION_NUMBER,    ARM(adam_beta2), "0.999", 0, 0.9999999,         \
         NULL,         "X", "AdamW's second decay"},                                               \
        {"adam-eps", 0,   SPAR_OPTION_NUMBER,           ARM(adam_eps), "1e-8", 1e-16, 1,           \
         NULL,       "X", "epsilon of either optimiser"},                                          \
    {                                                                                              \
        "rms-alpha", 0, SPAR_OPTION_NUMBER, ARM(rms_alpha), "0.99", 0, 0.9999999, NULL, "X",       \
            "RMSProp's decay"                                                                      \
    }

static const spar_option train_options[] = {TRAIN_OPTIONS, {0}};

static const spar_option arm_options[] = {
    {"name", 0, SPAR_OPTION_STRING, ARM(name), NULL, 0, 0, NULL, "NAME", "name in the report"},
    {"method", 0, SPAR_OPTION_STRING, ARM(method), "spin", 0, 0, NULL, "NAME",
     "sft, or what plays: spin, sppo, dpo, kto, grpo, ..."},
    {"from", 0, SPAR_OPTION_STRING, ARM(from), NULL, 0, 0, NULL, "ARM",
     "start where that earlier arm ended, not from the best so far"},
    {"against", 0, SPAR_OPTION_STRING, ARM(against), NULL, 0, 0, NULL, "ARM",
     "earlier arm, a control, that the comparison holds this one against"},
    {"pairs", 0, SPAR_OPTION_CHOICE, ARM(pairing), "auto", 0, 0,
     "auto|real|verified|judged|all|steps", "WHICH",
     "real: the real response against generated ones; verified: right ones against wrong ones; "
     "judged: the best against the worst by win rate; all: all together; steps: the two that a "
     "process reward model tells apart most where they first differ; auto: what suits the method"},
    {"min-margin", 0, SPAR_OPTION_NUMBER, ARM(min_margin), "0", 0, 1, NULL, "X",
     "judged pairs: drop those whose win rates are closer; pairs by steps: whose scores there are"},
    {"iterations", 0, SPAR_OPTION_INT, ARM(iterations), "1", 1, 1000, NULL, "N",
     "iterations; for sft, epochs, ended early when the gate set stops rising"},
    {"patience", 0, SPAR_OPTION_INT, ARM(patience), "2", 0, 1000, NULL, "N",
     "end the arm after N iterations in a row that were thrown away; 0: never"},
    {"epochs", 0, SPAR_OPTION_INT, ARM(epochs), "1", 1, 1000, NULL, "N",
     "passes over the pairs of an iteration"},
    {"samples", 0, SPAR_OPTION_INT, ARM(samples), "1", 1, 1024, NULL, "K",
     "responses sampled a prompt"},
    {"pairs-per-prompt", 0, SPAR_OPTION_INT, ARM(pairs_per_prompt), "1", 1, 1024, NULL, "N",
     "verified or judged pairs taken from a prompt at most"},
    {"fresh", 0, SPAR_OPTION_INT, ARM(fresh), "0", 0, 1e9, NULL, "N",
     "so many new problems in each iteration, disjoint from the held-out sets (task families); 0: "
     "the training problems"},
    {"opponents", 0, SPAR_OPTION_CHOICE, ARM(opponents), "latest", 0, 0,
     "latest|uniform|prioritised", "WHICH",
     "who answers a prompt: the best model so far, or one drawn from those that were, evenly or by "
     "wins over it"},
    {"pool", 0, SPAR_OPTION_INT, ARM(pool), "4", 2, 64, NULL, "N",
     "models to draw opponents from at most, the newest"},
    {"mix-previous", 0, SPAR_OPTION_NUMBER, ARM(mix_previous), "1", 0, 1, NULL, "X",
     "share of the previous iteration's pairs mixed in, with real pairs"},
    {"control", 0, SPAR_OPTION_CHOICE, ARM(control), "none", 0, 0, "none|labelled|verified",
     "WHICH", "control arm: SFT on the labelled problems, or on the model's own verified answers"},
    {"control-lr", 0, SPAR_OPTION_NUMBER, ARM(control_lr), "5e-5", 0, 1, NULL, "X",
     "peak learning rate of the control"},
    {"control-optimizer", 0, SPAR_OPTION_STRING, ARM(control_optimizer), "adamw", 0, 0, NULL,
     "NAME", "optimiser of the control"},
    SPAR_METHOD_ROWS(sp_arm, params, "clip"){
        "exact-reference", 0, SPAR_OPTION_FLAG, ARM(exact_reference), "true", 0, 0, NULL, NULL,
        "score the opponent by the trainer's own pass instead of the log-probs kept from sampling"},
    {"sequence-mean", 0, SPAR_OPTION_FLAG, ARM(sequence_mean), "false", 0, 0, NULL, NULL,
     "sft: mean of per-sequence means instead of the token mean"},
    TRAIN_OPTIONS,
    {0}};

#define TOP(field) offsetof(sp_recipe, field)
static const spar_option top_options[] = {
    {"name", 0, SPAR_OPTION_STRING, TOP(name), "run", 0, 0, NULL, "NAME", "name in the report"},
    {"model", 0, SPAR_OPTION_STRING, TOP(model), NULL, 0, 0, NULL, "PATH",
     "model to start from, unless -m names one"},
    {"weights", 0, SPAR_OPTION_CHOICE, TOP(weights), "auto", 0, 0, "auto|f32|file|q8_0|q4_1",
     "FORM", "how matrices are kept: floats (auto), or, under an adapter, blocks of 8 or 4 bits"},
    {"chat-template-file", 0, SPAR_OPTION_STRING, TOP(template_path), NULL, 0, 0, NULL, "FILE",
     "chat template, for a model that has none"},
    {"chat-template", 0, SPAR_OPTION_STRING, TOP(template_text), NULL, 0, 0, NULL, "TEXT",
     "the same, written in the recipe"},
    {"seed", 0, SPAR_OPTION_INT, TOP(seed), "0", 0, 9e15, NULL, "N", "seed of the whole run"},
    {"checkpoint-steps", 0, SPAR_OPTION_INT, TOP(checkpoint_steps), "0", 0, 1e9, NULL, "N",
     "save the trainer every N steps; 0: at epoch ends only"},
    {"keep-checkpoints", 0, SPAR_OPTION_FLAG, TOP(keep_checkpoints), "false", 0, 0, NULL, NULL,
     "keep checkpoints that were superseded or thrown away"},
    {"gate-margin", 0, SPAR_OPTION_NUMBER, TOP(gate_margin), "0", -1, 1, NULL, "X",
     "a candidate is kept when it beats the best on the gate set by more than this"},
    {0}};

const spar_option *spar_recipe_section(int i, const char **name) {
    static const struct {
        const char *name;
        const spar_option *table;
    } sections[] = {{"", top_options},
                    {"data", data_options},
                    {"generate", spar_sampling_options},
                    {"evaluate", evaluate_options},
                    {"judge", judge_options},
                    {"lora", lora_options},
                    {"train", train_options},
                    {"arms", arm_options}};
    if (i < 0 || i >= (int)(sizeof sections / sizeof sections[0])) {
        return NULL;
    }
    *name = sections[i].name;
    return sections[i].table;
}

/* Read section `key` of the root, which may be missing. */
static spar_status read_section(const json_t *root, const char *key, const spar_option *table,
                                void *values, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *section = json_object_get(root, key);
    if (section) {
        char where[512];
        snprintf(where, sizeof where, "%s: %s", path, key);
        SPAR_TRY(spar_options_from_json(table, values, section, where, err));
    }
done:
    return status;
}

/* What an arm learns from. A method of single responses or of whole groups says so itself, whatever
 * `pairs` says: one recipe serves all methods. */
static sp_pairing pairing_of(const sp_arm *arm, bool has_judge) {
    if (arm->objective.kind == SP_OBJECTIVE_LABELLED) {
        return SP_PAIR_SINGLE;
    }
    if (arm->objective.kind == SP_OBJECTIVE_TOKENS) {
        return SP_PAIR_ALL;
    }
    if (arm->pairing != SP_PAIR_AUTO) {
        return (sp_pairing)arm->pairing;
    }
    return has_judge && !strstr(arm->objective.name, "spin") ? SP_PAIR_JUDGED : SP_PAIR_REAL;
}

/* What tells responses apart, for the pairs asked for. */
static spar_status check_judged_by(const sp_recipe *r, const sp_arm *arm, spar_error *err) {
    const bool checked = r->data.file == NULL;
    if (arm->pairing == SP_PAIR_VERIFIED && !checked) {
        return spar_fail(err, SPAR_INVALID,
                         "pairs: verified needs task families; data names a file");
    }
    if (sp_arm_compares(arm) && !checked && !r->judge.train) {
        return spar_fail(err, SPAR_INVALID,
                         "method %s compares responses: expected task families, or judge: train: "
                         "KIND[:MODEL], found neither",
                         arm->objective.name);
    }
    if (arm->pairing == SP_PAIR_STEPS && !(r->judge.train && sp_judge_sees_steps(r->judge.train))) {
        return spar_fail(err, SPAR_INVALID,
                         "pairs: steps needs a judge that scores steps: expected judge: train: "
                         "process:MODEL, found %s",
                         r->judge.train ? r->judge.train : "none");
    }
    return SPAR_OK;
}

/* What the method takes of a prompt's samples. */
static spar_status check_pairing(const sp_arm *arm, spar_error *err) {
    const bool supervised = arm->objective.kind == SP_OBJECTIVE_SFT;
    const char *method = arm->objective.name;
    size_t fewest, most;
    sp_objective_responses(&arm->objective, &fewest, &most);
    if (supervised && arm->pairing != SP_PAIR_REAL && arm->pairing != SP_PAIR_VERIFIED) {
        return spar_fail(err, SPAR_INVALID,
                         "pairs: expected real or verified for method sft, which compares nothing");
    }
    if (arm->pairing == SP_PAIR_ALL && most != SIZE_MAX) {
        return spar_fail(err, SPAR_INVALID, "pairs: method %s takes pairs, found all", method);
    }
    if (arm->pairing != SP_PAIR_REAL && arm->pairing != SP_PAIR_SINGLE && !supervised &&
        arm->samples < 2) {
        return spar_fail(err, SPAR_INVALID, "samples: expected 2 or more to judge, found %lld",
                         (long long)arm->samples);
    }
    if (arm->objective.kind == SP_OBJECTIVE_TOKENS && arm->opponents != SP_OPPONENTS_LATEST) {
        return spar_fail(err, SPAR_INVALID,
                         "opponents: expected latest for method %s, which learns from the policy's "
                         "own samples",
                         method);
    }
    if (most == 3 && arm->fresh) {
        return spar_fail(err, SPAR_INVALID,
                         "fresh: expected 0 for method %s, which goes back to the first "
                         "iteration's responses, found %lld",
                         method, (long long)arm->fresh);
    }
    return SPAR_OK;
}

static spar_status find_method(const sp_recipe *r, sp_arm *arm, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_schedule *schedule;
    const sp_optimizer_kind *optimizer;
    SPAR_TRY(sp_schedule_find(arm->schedule, &schedule, err));
    SPAR_TRY(sp_optimizer_find(arm->optimizer, &optimizer, err));
    SPAR_TRY(sp_optimizer_find(arm->control_optimizer, &optimizer, err));
    SPAR_TRY(sp_objective_find(&arm->objective, arm->method, err));
    SPAR_TRY(sp_objective_set_given(&arm->objective, arm->params, err));
    if (sp_arm_plays(arm)) {
        arm->pairing = pairing_of(arm, !r->data.file || r->judge.train);
        SPAR_TRY(check_judged_by(r, arm, err));
        SPAR_TRY(check_pairing(arm, err));
    }
done:
    if (status != SPAR_OK) {
        spar_error_context(err, "%s", where);
    }
    return status;
}

/* The earlier arm that a key names; -1 where the arm has not the key. */
static spar_status earlier_arm(const sp_recipe *r, int before, const char *key, const char *name,
                               int *index, spar_error *err) {
    *index = -1;
    for (int i = 0; name && i < before; i++) {
        *index = strcmp(r->arms[i].name, name) == 0 ? i : *index;
    }
    return !name || *index >= 0
               ? SPAR_OK
               : spar_fail(err, SPAR_INVALID, "%s: expected the name of an earlier arm, found '%s'",
                           key, name);
}

/* Arms that start from one model and ask it the same get the same answers: the first of them
 * samples. */
static int find_shared(const sp_recipe *r, const sp_arm *arm) {
    int found = -1;
    for (int i = 0; i < r->n_arms && arm->from && sp_arm_plays(arm) && found < 0; i++) {
        const sp_arm *a = &r->arms[i];
        const bool same = a != arm && a->from_arm == arm->from_arm && sp_arm_plays(a) &&
                          a->fresh == arm->fresh && a->samples == arm->samples;
        found = same ? i : found;
    }
    return found;
}

/* Names that mean something must not mean two things. */
static spar_status relate_arm(sp_recipe *r, sp_arm *arm, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const int before = r->n_arms - 1;
    int against, twin = -1;
    SPAR_TRY(earlier_arm(r, before, "from", arm->from, &arm->from_arm, err));
    SPAR_TRY(earlier_arm(r, before, "against", arm->against, &against, err));
    for (int i = 0; i < before; i++) {
        twin = strcmp(r->arms[i].name, arm->name) == 0 ? i : twin;
    }
    if (twin >= 0 && (arm->from || arm->against)) {
        SPAR_TRY(
            spar_fail(err, SPAR_INVALID,
                      "name: '%s' is the name of arms[%d] too, and the arm has from or against",
                      arm->name, twin));
    }
    arm->shares = find_shared(r, arm);
done:
    if (status != SPAR_OK) {
        spar_error_context(err, "%s", where);
    }
    return status;
}

static spar_status read_arms(sp_recipe *r, const sp_arm *defaults, const char *path,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *arms = json_object_get(r->root, "arms");
    size_t n = json_array_size(arms);
    if (!json_is_array(arms) || n == 0 || n > SP_RECIPE_MAX_ARMS) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: arms: expected a list of 1 to %d arms, found %s",
                           path, SP_RECIPE_MAX_ARMS,
                           json_is_array(arms) ? "another number" : sp_json_type_name(arms)));
    }
    for (size_t i = 0; i < n; i++) {
        char where[512];
        sp_arm *arm = &r->arms[r->n_arms++];
        snprintf(where, sizeof where, "%s: arms[%zu]", path, i);
        *arm = *defaults;
        SPAR_TRY(spar_options_from_json(arm_options, arm, json_array_get(arms, i), where, err));
        if (!arm->name) {
            arm->name = arm->method;
        }
        SPAR_TRY(find_method(r, arm, where, err));
        SPAR_TRY(relate_arm(r, arm, where, err));
    }
done:
    return status;
}

static spar_status check_weights(const sp_recipe *r, const char *path, spar_error *err) {
    if (r->weights > SPAR_WEIGHTS_F32 && r->lora.rank == 0) {
        return spar_fail(err, SPAR_INVALID,
                         "%s: weights: expected f32 without an adapter, since blocks do not train; "
                         "give lora a rank",
                         path);
    }
    return SPAR_OK;
}

/* Texts that name something or are the thing itself: one may be left out, not left empty. */
static spar_status check_texts(const sp_recipe *r, const char *path, spar_error *err) {
    const struct {
        const char *key, *text;
    } texts[] = {{"model", r->model},
                 {"chat_template", r->template_text},
                 {"chat_template_file", r->template_path},
                 {"data: file", r->data.file},
                 {"judge: train", r->judge.train},
                 {"judge: report", r->judge.report}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].text && texts[i].text[0] == '\0') {
            return spar_fail(err, SPAR_INVALID, "%s: %s: expected a text, found an empty one", path,
                             texts[i].key);
        }
    }
    return SPAR_OK;
}

static spar_status check_families(const sp_recipe *r, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < r->data.families.n && status == SPAR_OK; i++) {
        int family, difficulty;
        status = sp_family_parse(r->data.families.items[i], &family, &difficulty, err);
    }
    if (status != SPAR_OK) {
        spar_error_context(err, "%s: data: families", path);
    }
    return status;
}

static spar_status check_data(const sp_recipe *r, const char *path, spar_error *err) {
    if ((r->data.families.n > 0) == (r->data.file != NULL)) {
        return spar_fail(err, SPAR_INVALID, "%s: data: expected either families or file, found %s",
                         path, r->data.file ? "both" : "neither");
    }
    for (int i = 0; i < r->n_arms && r->data.file; i++) {
        if (r->arms[i].fresh) {
            return spar_fail(err, SPAR_INVALID,
                             "%s: arms[%d]: fresh problems need task families; data names a file",
                             path, i);
        }
    }
    return SPAR_OK;
}

static spar_status check_judge(const sp_recipe *r, const char *path, spar_error *err) {
    bool judged = false;
    for (int i = 0; i < r->n_arms; i++) {
        judged = judged || sp_arm_compares(&r->arms[i]);
    }
    if (r->judge.train && !judged) {
        return spar_fail(
            err, SPAR_INVALID,
            "%s: judge: train: names a judge, but no arm has pairs: judged, or compares "
            "responses by its method",
            path);
    }
    return SPAR_OK;
}

/* A recipe spells an option's name with underscores. */
static bool is_key(const char *key, const char *name) {
    for (; *key && *name; key++, name++) {
        if (*key != (*name == '-' ? '_' : *name)) {
            return false;
        }
    }
    return *key == *name;
}

static const char *const section_names[] = {"data", "generate", "evaluate", "judge",
                                            "lora", "train",    "arms"};
enum { N_SECTIONS = sizeof section_names / sizeof section_names[0] };

/* Every key of the top level is an option or a section; the nearest of both is named otherwise. */
static spar_status check_top_key(const char *key, const char *path, spar_error *err) {
    const char *nearest = NULL;
    size_t best = 4;
    for (const spar_option *o = top_options; o->name; o++) {
        size_t d = spar_name_distance(key, o->name);
        if (is_key(key, o->name)) {
            return SPAR_OK;
        }
        nearest = d < best ? o->name : nearest;
        best = d < best ? d : best;
    }
    for (int i = 0; i < N_SECTIONS; i++) {
        size_t d = spar_name_distance(key, section_names[i]);
        if (d == 0) {
            return SPAR_OK;
        }
        nearest = d < best ? section_names[i] : nearest;
        best = d < best ? d : best;
    }
    if (!nearest) {
        return spar_fail(err, SPAR_INVALID, "%s: unknown key '%s'", path, key);
    }
    char spelled[64];
    snprintf(spelled, sizeof spelled, "%s", nearest);
    for (char *p = spelled; *p; p++) {
        *p = *p == '-' ? '_' : *p;
    }
    return spar_fail(err, SPAR_INVALID, "%s: unknown key '%s'; did you mean '%s'?", path, key,
                     spelled);
}

/* The sections are taken out before the top level is read by its table. */
static spar_status top_level(const json_t *root, const char *path, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value) {
        SPAR_TRY(check_top_key(key, path, err));
    }
    *out = json_copy((json_t *)(uintptr_t)root);
    for (int i = 0; i < N_SECTIONS; i++) {
        json_object_del(*out, section_names[i]);
    }
done:
    return status;
}

static spar_status set_defaults(sp_recipe *r, sp_arm *arm, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(spar_options_default(top_options, r, err));
    SPAR_TRY(spar_options_default(data_options, &r->data, err));
    SPAR_TRY(spar_options_default(spar_sampling_options, &r->sampling, err));
    SPAR_TRY(spar_options_default(evaluate_options, &r->evaluate, err));
    SPAR_TRY(spar_options_default(judge_options, &r->judge, err));
    SPAR_TRY(spar_options_default(lora_options, &r->lora, err));
    SPAR_TRY(spar_options_default(arm_options, arm, err));
done:
    return status;
}

/* All but the arms. arm: gets the settings of `train`. */
static spar_status read_sections(sp_recipe *r, sp_arm *arm, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *top = NULL;
    SPAR_TRY(top_level(r->root, path, &top, err));
    SPAR_TRY(spar_options_from_json(top_options, r, top, path, err));
    SPAR_TRY(read_section(r->root, "data", data_options, &r->data, path, err));
    SPAR_TRY(read_section(r->root, "generate", spar_sampling_options, &r->sampling, path, err));
    SPAR_TRY(read_section(r->root, "evaluate", evaluate_options, &r->evaluate, path, err));
    SPAR_TRY(read_section(r->root, "judge", judge_options, &r->judge, path, err));
    SPAR_TRY(read_section(r->root, "lora", lora_options, &r->lora, path, err));
    SPAR_TRY(read_section(r->root, "train", train_options, arm, path, err));
    SPAR_TRY(check_texts(r, path, err));
done:
    json_decref(top);
    return status;
}

spar_status sp_recipe_load(sp_recipe *out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_arm defaults;
    memset(out, 0, sizeof *out);
    memset(&defaults, 0, sizeof defaults);
    SPAR_TRY(sp_yaml_load(&out->root, path, err));
    if (!json_is_object(out->root)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected a mapping, found %s", path,
                           sp_json_type_name(out->root)));
    }
    SPAR_TRY(set_defaults(out, &defaults, err));
    SPAR_TRY(read_sections(out, &defaults, path, err));
    SPAR_TRY(read_arms(out, &defaults, path, err));
    SPAR_TRY(check_weights(out, path, err));
    SPAR_TRY(check_data(out, path, err));
    SPAR_TRY(check_families(out, path, err));
    SPAR_TRY(check_judge(out, path, err));
done:
    if (status != SPAR_OK) {
        sp_recipe_release(out);
    }
    return status;
}

void sp_recipe_release(sp_recipe *recipe) {
    json_decref(recipe->root);
    memset(recipe, 0, sizeof *recipe);
}
