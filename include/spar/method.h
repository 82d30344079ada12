/* The parameters of training methods as options: one row each, for the command line and recipes.
 *
 * A method takes those that its own row lists (train/loss.c, train/policy_gradient.c), with its own
 * defaults and bounds; another one is refused by name.
 */
#ifndef SPAR_METHOD_H
#define SPAR_METHOD_H

#include "spar/options.h"

/* X(type, field, ID, parameter, option, most, help). An option is called as its parameter, but for
 * clip: the caller names it, as the norm of the gradient is clipped too. most: what any method
 * allows. */
#define SPAR_METHOD_PARAMS(X, type, field, clip)                                                   \
    X(type, field, BETA, "beta", "beta", 1e6,                                                      \
      "strength of the pull towards the reference, or scale of the margin")                        \
    X(type, field, ALPHA, "alpha", "alpha", 1e6,                                                   \
      "weight of a likelihood term (rpo, cpo, xpo), scale (t_spin)")                               \
    X(type, field, GAMMA, "gamma", "gamma", 1e3, "margin to reach (simpo)")                        \
    X(type, field, LAMBDA, "lambda", "lambda", 1e3, "weight of the odds-ratio term (orpo)")        \
    X(type, field, LABEL_SMOOTHING, "label_smoothing", "label-smoothing", 0.5,                     \
      "share of labels taken to be wrong (dpo)")                                                   \
    X(type, field, ETA, "eta", "eta", 1e6, "step (rebel), inverse step (inpo)")                    \
    X(type, field, TAU, "tau", "tau", 1e6, "pull towards the anchor (inpo)")                       \
    X(type, field, LAMBDA_GOOD, "lambda_good", "lambda-good", 1e3,                                 \
      "weight of good responses (kto)")                                                            \
    X(type, field, LAMBDA_BAD, "lambda_bad", "lambda-bad", 1e3, "weight of bad responses (kto)")   \
    X(type, field, CLIP, "clip", clip, 1, "how far ratios count below 1 (policy gradients)")       \
    X(type, field, CLIP_HIGH, "clip_high", "clip-high", 1e3,                                       \
      "how far ratios count above 1 (policy gradients)")                                           \
    X(type, field, KL, "kl", "kl", 1e3, "pull towards the anchor (policy gradients)")              \
    X(type, field, CONSTANT, "constant", "constant", 1e9,                                          \
      "what sums over tokens are divided by (dr_grpo)")                                            \
    X(type, field, MIXTURE, "mixture", "mixture", 1,                                               \
      "share of the anchor in the opponent (nash_md)")

#define SPAR_METHOD_ID(type, field, id, name, option, most, help) SPAR_PARAM_##id,
enum { SPAR_METHOD_PARAMS(SPAR_METHOD_ID, , , ) SPAR_PARAM_COUNT };
#undef SPAR_METHOD_ID

/* The value of a parameter that is not given: the method's own holds. */
#define SPAR_PARAM_OWN (-1.0)

#define SPAR_METHOD_ROW(type, field, id, name, option, most, help)                                 \
    {option,                                                                                       \
     0,                                                                                            \
     SPAR_OPTION_NUMBER,                                                                           \
     offsetof(type, field[SPAR_PARAM_##id]),                                                       \
     "-1",                                                                                         \
     -1,                                                                                           \
     most,                                                                                         \
     NULL,                                                                                         \
     "X",                                                                                          \
     help "; -1: the method's own"},
/* Rows of an option table for a `double field[SPAR_PARAM_COUNT]` of a struct of the caller's. Each
 * ends with its comma. */
#define SPAR_METHOD_ROWS(type, field, clip) SPAR_METHOD_PARAMS(SPAR_METHOD_ROW, type, field, clip)

#endif
