/* Lessons: what a training is about to learn from. Examples with their replies, and the log-probs
 * of opponent and anchor that its objective reads.
 */
#ifndef SP_PLAY_LESSONS_H
#define SP_PLAY_LESSONS_H

#include "train/trainer.h"

typedef struct sp_lessons {
    sp_example *examples; /* owned, [capacity]; token ids are borrowed */
    sp_reply *replies;    /* owned, [reply_capacity], in the order of the examples */
    size_t n, n_replies, capacity, reply_capacity;
    float *tokens[2]; /* owned: log-probs by token of opponent and anchor; NULL until scored */
} sp_lessons;

typedef enum sp_lessons_model { SP_LESSONS_OPPONENT, SP_LESSONS_ANCHOR } sp_lessons_model;

/* Room for so many examples and replies in all. */
spar_status sp_lessons_init(sp_lessons *out, size_t examples, size_t replies, spar_error *err);
void sp_lessons_release(sp_lessons *l);

/* Append an example without replies; then replies to the last example. Within the room. */
void sp_lessons_add(sp_lessons *l, const int32_t *prompt, size_t n_prompt);
void sp_lessons_reply(sp_lessons *l, const sp_reply *reply);

/* Rows of the most that is computed together: a prompt with all its replies, or with one of them
 * where the objective takes them apart. */
size_t sp_lessons_largest(const sp_lessons *l, const sp_objective *objective);

/* KTO: examples of one reply each get a second, borrowed from the next example that has another
 * prompt, and cut to what the prompt leaves of `longest` tokens. INVALID where all have the same
 * prompt. */
spar_status sp_lessons_mismatch(sp_lessons *l, int64_t longest, spar_error *err);

/* Keep what the trainer's model gives every reply as its opponent's or anchor's log-probs: summed,
 * and by token too where the objective sees tokens. step: asked between batches of examples, may be
 * NULL. */
typedef void (*sp_lessons_step)(void *context, size_t done, size_t total);
spar_status sp_lessons_score(sp_lessons *l, sp_trainer *trainer, sp_lessons_model which,
                             const sp_objective *objective, sp_logp_gap *gap, sp_lessons_step step,
                             void *context, spar_error *err);
/* Tokens of all replies. */
size_t sp_lessons_tokens(const sp_lessons *l);
/* One reply's log-probs by token, borrowed, as its opponent's or anchor's. */
void sp_lessons_give(sp_reply *reply, sp_lessons_model which, const float *tokens);

/* Whether every reply has its log-probs kept from sampling. */
bool sp_lessons_all_kept(const sp_lessons *l);
/* Take those as the opponent's, where replies have them. */
void sp_lessons_take_kept(sp_lessons *l);

/* Win rates against the geometric mixture opponent^(1-m) anchor^m in place of those against the
 * opponent: the replies of an example, k samples of the opponent, stand for it with weights
 * (anchor / opponent)^m, normalised. p [k,k]: P(i preferred to j); order [k]: where in p each reply
 * is; NULL: in their order. */
spar_status sp_lessons_against_mixture(sp_example *e, const double *p, const size_t *order,
                                       double m, spar_error *err);

/* The opponent is the anchor: its log-probs once more. */
void sp_lessons_same_anchor(sp_lessons *l);

#endif
