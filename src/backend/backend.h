/* The op table: everything that the model computes, as some forty coarse operations.
 *
 * A backend is a device with its threads, scratch and one row of function pointers. The CPU
 * reference (cpu/reference.c) is complete and plain; the tuned row (cpu/tuned.c) overrides entries;
 * support and implementation are the same row.
 *
 * Terms. T rows (tokens) of a packed batch; H hidden size; D head size; V vocabulary.
 * "operand" arrays feed matrix products and have the backend's operand type: f32, or bf16 with f32
 * accumulation (SP_COMPUTE_BF16). All other arrays are f32. Arrays are row-major and contiguous,
 * 64-byte aligned, and do not alias unless said. "=" overwrites, "+=" accumulates.
 *
 * Determinism: work is cut by sizes alone, never by the thread count, and every reduction has a
 * fixed order: results are bit-identical for any number of threads (on one CPU and library; another
 * instruction set sums in another order).
 *
 * Threads: one op at a time per backend, since ops share its scratch. An op may set the OpenMP
 * thread count of the calling thread to one, which oneDNN is run under.
 */
#ifndef SP_BACKEND_BACKEND_H
#define SP_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/blocks.h"
#include "base/pool.h"
#include "spar/status.h"

typedef enum sp_compute { SP_COMPUTE_F32, SP_COMPUTE_BF16 } sp_compute;

/* The activation of a feed-forward: x sigmoid(x); x Phi(x), Phi the normal distribution function;
 * and the same by the approximation of Phi(x) as sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)). Then
 * max(x, 0), its square, and tanh x, which is for `activate` alone. xIELU has operations of its
 * own. */
typedef enum sp_act { SP_SILU, SP_GELU, SP_GELU_TANH, SP_RELU, SP_RELU2, SP_TANH, SP_XIELU } sp_act;

/* xIELU (arXiv 2411.13010): positive x^2 + beta x where x > 0, else negative (e^min(x, eps) - 1 -
 * x)
 * + beta x. by_positive and by_negative: the derivatives of `positive` and `negative` by the
 * parameters that they are made of. */
typedef struct sp_xielu {
    float positive, negative, beta, eps;
    float by_positive, by_negative;
} sp_xielu;

/* How queries and keys turn: the first `dims` entries of a head, in pairs (i, i + dims/2), or
 * (2i, 2i + 1) where adjacent. */
typedef struct sp_rotation {
    const float *cos_table, *sin_table; /* [max_pos, dims/2] */
    int dims;                           /* even, head_dim at most */
    bool adjacent;
} sp_rotation;

/* Gains of heads, one [dim] each: that of head h is at `at + h step`. */
typedef struct sp_head_gains {
    const float *at;
    int heads, dim;
    int64_t step; /* dim or more */
} sp_head_gains;

/* A weight matrix W [out, in] as the matrix products want it: the f32 master, or a frozen matrix as
 * quantised blocks, or both (blocks are then a copy for products in whole numbers). packed belongs
 * to the backend: copies of data in the library's layout, renewed by weight_prepare. */
typedef struct sp_weight {
    const float *data; /* [out, in], borrowed; NULL where there are blocks or copies alone */
    sp_blocks *blocks; /* borrowed; NULL where there are none */
    int64_t out, in;
    void *packed; /* owned by the backend; NULL until prepared, and where no copy is wanted */
} sp_weight;

/* HEAD: the backward is that of head_logp_bwd, in place of linear_dx. EACH: the weight changes with
 * every step; where products can make what they want of it as they go, no copies are kept. */
enum { SP_PREPARE_FORWARD = 1, SP_PREPARE_BACKWARD = 2, SP_PREPARE_HEAD = 4, SP_PREPARE_EACH = 8 };

/* A run of tokens of one sequence. Its keys and values lie in rows kv_start .. kv_start + kv_len -
 * 1 of the key and value arrays; the last q_len of them belong to the queries q_start .. of this
 * batch (q_len may be 0 for a segment that only others look at). Key i has position pos0 + i.
 * A query sees the keys of its own segment up to its own position, and all keys of the parent, the
 * parent's parent, ... (parent < own index, or -1), whose positions end where its own begin. With
 * a window w > 0 it sees positions p with query position - p < w only. */
typedef struct sp_segment {
    int64_t q_start, kv_start;
    int32_t q_len, kv_len;
    int32_t parent;
    int32_t pos0;
} sp_segment;

typedef struct sp_attention {
    int n_heads, n_kv_heads, head_dim; /* n_heads is a multiple of n_kv_heads */
    int window;                        /* 0: none */
    float scale;                       /* of the scores, 1/sqrt(D) as a rule */
    float cap;                         /* > 0: scores s become cap tanh(s / cap) */
    /* [n_heads], borrowed; NULL, as with a cap: none. To the score of a key at position p and a
     * query at position q of head h, slopes[h] (p - q) is added (ALiBi, arXiv 2108.12409). */
    const float *slopes;
    int n_segments;
    const sp_segment *segments; /* borrowed */
    /* > 0: keys and values are those of a cache, [n_kv_heads, cache_rows, D] each and of type bf16
     * or f32; 0: f32 [*, n_kv_heads*D]. */
    int64_t cache_rows;
    bool cache_bf16;
} sp_attention;

/* Attention of packed rows in which every token sees all tokens of its own row, with the relative
 * terms of DeBERTa (arXiv 2006.03654, eq. 4): the score of query i and key j is
 *     scale (q_i . k_j + q_i . pos_key[b] + k_j . pos_query[b]),   b = buckets[i - j]. */
typedef struct sp_relative_attention {
    int n_heads, head_dim;
    float scale;
    int n_rows;
    const int64_t *starts; /* [n_rows + 1], borrowed: row r is the tokens starts[r] .. of a batch */
    const float *pos_key;  /* [related, n_heads*D], borrowed; NULL: without this term */
    const float *pos_query; /* the same */
    int64_t related;
    const int32_t *buckets; /* borrowed: from -(N - 1) to N - 1, N the longest row; monotonic, each
                             * in 0 .. related - 1. Read where there is a term. */
} sp_relative_attention;

/* A gated short convolution (LFM2, arXiv 2511.23404). A row z of 3 width entries is B, C and x, one
 * after another, and with u = B x, entry by entry, the row of position t gives
 *     out_t = C_t sum_j w[., j] u_(t - taps + 1 + j),   j = 0 .. taps - 1,
 * over the positions of its segment and of those before it (as attention sees them); there is
 * nothing before position 0. */
enum { SP_CONV_TAPS = 64 }; /* at most */
typedef struct sp_short_conv {
    int64_t width;
    int taps;
    const float *w; /* [width, taps], borrowed */
    int n_segments;
    const sp_segment *segments; /* borrowed; rows of u are placed as keys are */
    /* Borrowed; u of earlier rows, [rows, width] of type bf16 or f32. NULL: none, and row i of u is
     * that of row i of z. */
    void *cache;
    bool cache_bf16;
} sp_short_conv;

/* What becomes of a logit z: scale (z + bias), and with cap > 0 then cap tanh(... / cap). */
typedef struct sp_logit_form {
    float scale, cap;
    const float *bias; /* [V], borrowed, of head_logp and its backward; NULL: none */
    float *dbias;      /* [V] += its gradient, of the backward; skipped where NULL */
} sp_logit_form;

/* Dropout (of an adapter's input): element i is dropped when the word of (seed, stream, i) falls
 * into share p, and divided by 1 - p otherwise: the same mask wherever it is asked for. */
typedef struct sp_dropout {
    float p; /* 0 <= p < 1 */
    uint64_t seed, stream;
} sp_dropout;

/* What a router makes of a token's logits. */
typedef enum sp_router { SP_ROUTER_SOFTMAX, SP_ROUTER_SIGMOID } sp_router;

enum { SP_MAX_GROUPS = 64 };

/* Where the T tokens of a mixture's layer go: each to k of E experts. The T k pairs of a token and
 * an expert are rows, in the order of experts, and within an expert in that of tokens. Arrays are
 * borrowed. */
typedef struct sp_routing {
    sp_router kind;
    int experts, top_k;
    int groups, open; /* experts are chosen in the `open` groups of so many whose two largest sum up
                       * to most; groups 0: in all. Groups have the same size, 2 or more. */
    bool normalised;  /* a token's weights are divided by their sum */
    double least;     /* ... by this where it is less */
    float scale;      /* and multiplied by this */
    const float *bias; /* [E]: added to the probabilities for the choice alone; NULL: nothing */
    float *probs;      /* [T,E]: of the router's logits, by its kind */
    int32_t *chosen;   /* [T,k]: experts, the likeliest first; of equal ones the lower index */
    int32_t *row;      /* [T,k]: rows of those pairs */
    int32_t *token;    /* [T k]: of a row */
    float *weight;     /* [T k]: of a row, what its expert's output is multiplied by */
    int64_t *first;    /* [E+1]: expert e has rows first[e] .. first[e+1] - 1 */
} sp_routing;

typedef struct sp_backend sp_backend;

typedef struct sp_ops {
    const char *name; /* "reference", "avx2+onednn", ... */

    /* Between begin and end, ops over all T rows of a batch may be put off and run block of rows
     * by block of rows, in the order of the calls, so that what one leaves is in the cache for the
     * next. Only row-wise ops may be called there: linear, linear_dx, to_operand,
     * copy, add_scaled, clip*, rmsnorm*, layernorm*, rope, activate*, glu*, xielu*, each over n
     * elements or rows that T divides; and linear_dw, which runs after the rows, in the order of
     * the calls. Their arrays must stay what they are until the end, which reports the errors.
     * local_row: bytes a row of all arrays that chain_local will be asked for. put_off false: all
     * run at once, and any op may be called. chain_end without a chain does nothing. */
    spar_status (*chain_begin)(sp_backend *be, int64_t T, size_t local_row, bool put_off,
                               spar_error *err);
    /* An array of T rows of `row` bytes that lives within the chain, for the ops of the chain alone
     * (it may be no more than a block of rows for each thread); borrowed until chain_end. Ask for
     * 8 at most. */
    void *(*chain_local)(sp_backend *be, size_t row);
    spar_status (*chain_end)(sp_backend *be, spar_error *err);

    /* Renew the backend's copies of w from w->data (both directions as `what` says). */
    spar_status (*weight_prepare)(sp_backend *be, sp_weight *w, int what, spar_error *err);
    void (*weight_release)(sp_backend *be, sp_weight *w);

    /* y [T,out] (= or +=) x [T,in] W^T + bias; x operand, bias f32 [out] or NULL. */
    spar_status (*linear)(sp_backend *be, const sp_weight *w, const float *bias, const void *x,
                          int64_t T, float *y, bool accumulate, spar_error *err);
    /* linear in whole numbers: w has blocks, and x is rounded in blocks of 32 inputs, to one term
     * of 8 bits or two (the second holds what the first left, 1/254 as large). */
    spar_status (*linear_whole)(sp_backend *be, const sp_weight *w, const float *bias,
                                const void *x, int terms, int64_t T, float *y, bool accumulate,
                                spar_error *err);
    /* dx [T,in] (= or +=) dy [T,out] W; dy operand. */
    spar_status (*linear_dx)(sp_backend *be, const sp_weight *w, const void *dy, int64_t T,
                             float *dx, bool accumulate, spar_error *err);
    /* dw [out,in] (= or +=) dy^T x; dbias [out] += column sums of dy (when not NULL). Operands. */
    spar_status (*linear_dw)(sp_backend *be, int64_t out, int64_t in, const void *dy, const void *x,
                             int64_t T, float *dw, bool accumulate, float *dbias, spar_error *err);

    /* operand y [n] = x [n] factor */
    void (*to_operand)(sp_backend *be, const float *x, int64_t n, float factor, void *y);
    /* y [n] = x [n]; they do not overlap. */
    void (*copy)(sp_backend *be, const float *x, int64_t n, float *y);
    /* y [n] += x [n] factor; they do not overlap. */
    void (*add_scaled)(sp_backend *be, const float *x, int64_t n, float factor, float *y);

    /* x [n] to within -bound .. bound; kept [n]: whether an entry was there; NULL: not wanted. */
    void (*clip)(sp_backend *be, float *x, int64_t n, float bound, uint8_t *kept);
    /* dx [n] = 0 where x was beyond. */
    void (*clip_bwd)(sp_backend *be, float *dx, int64_t n, const uint8_t *kept);

    /* x [T,H] = row ids[t] of the table [V,H], times factor; ids already checked. */
    void (*embed)(sp_backend *be, const sp_weight *table, const int32_t *ids, int64_t T,
                  float factor, float *x);
    /* x [T,H] += row ids[t] of the f32 table [.,H]. */
    void (*embed_add)(sp_backend *be, const float *table, const int32_t *ids, int64_t T, int64_t H,
                      float *x);
    /* dtable [ids[t],:] += factor dx [t,:], in the order of t. */
    void (*embed_dw)(sp_backend *be, const int32_t *ids, int64_t T, int64_t H, const float *dx,
                     float factor, float *dtable);

    /* rows x [n,dim]: rstd[n] = 1/sqrt(mean x^2 + eps); operand y = x rstd g (g [dim]). */
    void (*rmsnorm)(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                    float eps, void *y, float *rstd);
    /* The same with an f32 result (query and key norms); y may be x. */
    void (*rmsnorm_f32)(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                        float eps, float *y, float *rstd);
    /* dx [n,dim] (= or +=), dg [dim] += (skipped when dg is NULL); dx may be dy when not
     * accumulating. */
    void (*rmsnorm_bwd)(sp_backend *be, const float *x, const float *g, const float *rstd,
                        const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                        float *dg);

    /* rows x [n,dim], with v = x + shift (shift [dim] or NULL): y = (v - mean v) g / sqrt(var v +
     * eps)
     * + bias, f32, which may be x; and the same as operand z, where it is not NULL. */
    void (*layernorm)(sp_backend *be, const float *x, const float *shift, const float *g,
                      const float *bias, int64_t n, int64_t dim, float eps, float *y, void *z);

    /* The same for training (Ba et al. 2016), of rows x [n,dim]: rstd[n] = 1/sqrt(mean (x - mean
     * x)^2
     * + eps); operand y = (x - mean x) rstd g + bias; g [dim], bias [dim] or NULL. */
    void (*layernorm_operand)(sp_backend *be, const float *x, const float *g, const float *bias,
                              int64_t n, int64_t dim, float eps, void *y, float *rstd);
    /* dx [n,dim] (= or +=); dg [dim] += and dbias [dim] += (each skipped when NULL); dx may be dy
     * when not accumulating. */
    void (*layernorm_bwd)(sp_backend *be, const float *x, const float *g, const float *rstd,
                          const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                          float *dg, float *dbias);

    /* Layer norms of each head of rows x [n, heads*dim] by its gain, without a bias: rstd [n,
     * heads]; f32 y may be x. Backward: dx = (may be dy), dg += (laid out as the gains; skipped
     * when NULL). */
    void (*layernorm_heads)(sp_backend *be, const float *x, const sp_head_gains *g, int64_t n,
                            float eps, float *y, float *rstd);
    void (*layernorm_heads_bwd)(sp_backend *be, const float *x, const sp_head_gains *g,
                                const float *rstd, const float *dy, int64_t n, float *dx,
                                float *dg);

    /* Rotary embedding in place on x [T, n_heads*D]: the angle of row t from the tables at
     * positions[t]; sign -1 rotates back (backward). */
    void (*rope)(sp_backend *be, float *x, int64_t T, int n_heads, int head_dim,
                 const sp_rotation *rotation, const int32_t *positions, float sign);

    /* Operands q, k, v and out [*, n_heads*D]. With bf16 operands the products may round their
     * other inputs too (positions, probabilities before they are divided by their sum). */
    spar_status (*relative_attention)(sp_backend *be, const sp_relative_attention *a, const void *q,
                                      const void *k, const void *v, void *out, spar_error *err);
    /* q [*, n_heads*D] by q_start; k, v by kv_start, f32 [*, n_kv_heads*D] or of a cache; operand
     * out like q; lse [*, n_heads]: log-sum-exp of the scaled scores of the row (for backward); may
     * be NULL. With bf16 operands, or a cache of bf16, the products may round their inputs (scaled
     * q, k, v, probabilities) to bf16; sums and the softmax are f32. */
    spar_status (*attention)(sp_backend *be, const sp_attention *a, const float *q, const void *k,
                             const void *v, void *out, float *lse, spar_error *err);
    /* Rows x [n, heads*D] to the rows `to` .. of one array of a cache [heads, cache_rows, D]. */
    void (*cache_put)(sp_backend *be, const float *x, int64_t n, int heads, int head_dim,
                      void *cache, int64_t cache_rows, bool bf16, int64_t to);
    /* dq, dk, dv = gradients (overwritten on all rows of the segments); dout f32 like q. Every
     * segment has q_len == kv_len here, and there is no cache. */
    spar_status (*attention_bwd)(sp_backend *be, const sp_attention *a, const float *q,
                                 const float *k, const float *v, const void *out, const float *lse,
                                 const float *dout, float *dq, float *dk, float *dv,
                                 spar_error *err);

    /* z [*, 3 width] and operand out [*, width] by q_start. With a cache, u of the batch's rows is
     * put there first, and every u read from it. */
    void (*short_conv)(sp_backend *be, const sp_short_conv *a, const float *z, void *out);
    /* From f32 dout like out: dz like z = (on all rows of the segments), dw like w += (skipped when
     * NULL). Every segment has q_len == kv_len and q_start == kv_start here, and there is no cache.
     */
    void (*short_conv_bwd)(sp_backend *be, const sp_short_conv *a, const float *z,
                           const float *dout, float *dz, float *dw);

    /* y [n,dim] = act(x + shift), shift [dim] or NULL; an operand, or with `f32` f32, which may be
     * x.
     */
    void (*activate)(sp_backend *be, sp_act act, const float *x, const float *shift, int64_t n,
                     int64_t dim, bool f32, void *y);
    /* operand y [n] = act(gate) * up. With kept_gate and kept_up (both or neither NULL), gate and
     * up are also stored there as operands, for the backward. */
    void (*glu)(sp_backend *be, sp_act act, const float *gate, const float *up, int64_t n, void *y,
                void *kept_gate, void *kept_up);
    /* The same y from what was kept: operand gate, up. */
    void (*glu_kept)(sp_backend *be, sp_act act, const void *gate, const void *up, int64_t n,
                     void *y);
    /* operand dgate, dup [n] from operand gate, up and f32 dy. */
    void (*glu_bwd)(sp_backend *be, sp_act act, const void *gate, const void *up, const float *dy,
                    int64_t n, void *dgate, void *dup);

    /* The same without a gate, for training: operand y [n] = act(x), and operand dx [n] from f32
     * dy; x is what was kept, as an operand. */
    void (*activate_kept)(sp_backend *be, sp_act act, const void *x, int64_t n, void *y);
    void (*activate_bwd)(sp_backend *be, sp_act act, const void *x, const float *dy, int64_t n,
                         void *dx);

    /* operand y [n] = xIELU(x), x f32 or, where kept, an operand. */
    void (*xielu)(sp_backend *be, const sp_xielu *p, const void *x, bool kept, int64_t n, void *y);
    /* operand dx [n] from operand x and f32 dy; dpositive [1] and dnegative [1] += the gradients of
     * those parameters (both skipped when NULL). */
    void (*xielu_bwd)(sp_backend *be, const sp_xielu *p, const void *x, const float *dy, int64_t n,
                      void *dx, float *dpositive, float *dnegative);

    /* logp[r] = log softmax(f(W h_r))[target[r]], lse[r] the log-sum-exp of the logits of row r, f
     * what form says; h operand [R,H], W [V,H]. The [R,V] logits are made in blocks and never exist
     * whole. */
    spar_status (*head_logp)(sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                             const void *h, const int32_t *target, int64_t R, float *logp,
                             float *lse, spar_error *err);
    /* With c[r] = d loss / d logp[r]: dh [R,H] f32 =, dw [V,H] = or += (skipped when NULL). */
    spar_status (*head_logp_bwd)(sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                                 const void *h, const int32_t *target, const float *lse,
                                 const float *c, int64_t R, float *dh, float *dw, bool accumulate,
                                 spar_error *err);
    /* x [n] = what form makes of them, in place. */
    void (*form_logits)(sp_backend *be, const sp_logit_form *form, int64_t n, float *x);

    /* y [n_rows,H] = x [rows[i],:]; and dx [rows[i],:] += dy [i,:] in the
     * order of i (rows may repeat: a prompt's last row predicts the first token of every response).
     */
    void (*gather)(sp_backend *be, const float *x, const int64_t *rows, int64_t n_rows, int64_t H,
                   float *y);
    void (*scatter_add)(sp_backend *be, const float *dy, const int64_t *rows, int64_t n_rows,
                        int64_t H, float *dx);

    /* operand y [n] = dropped operand x; and f32 y += dropped x. */
    void (*dropout)(sp_backend *be, const void *x, int64_t n, const sp_dropout *d, void *y);
    void (*dropout_add)(sp_backend *be, const float *x, int64_t n, const sp_dropout *d, float *y);

    /* y [T,n] (= or +=) x [T,n] g [n] + bias [n] (NULL: none), column by column; y is not x. */
    void (*scale_columns)(sp_backend *be, const float *x, const float *g, const float *bias,
                          int64_t T, int64_t n, float *y, bool accumulate);
    /* dg [n] += column sums of dy x; operand dx [T,n] = dy g. dy operand; dx may be dy. */
    void (*scale_columns_bwd)(sp_backend *be, const float *x, const float *g, const void *dy,
                              int64_t T, int64_t n, float *dg, void *dx);

    /* Fill r from the router's logits [T,E]. */
    void (*route)(sp_backend *be, const float *logits, int64_t T, const sp_routing *r);
    /* operand dlogits [T,E] = gradient from dweight [T k], by row, and from dprobs [E], which every
     * token's probabilities have besides (NULL: nothing). */
    void (*route_bwd)(sp_backend *be, const sp_routing *r, const float *dweight,
                      const float *dprobs, int64_t T, void *dlogits);
    /* operand y [n_rows,n] = operand x [rows[i],:] */
    void (*take_rows)(sp_backend *be, const void *x, const int32_t *rows, int64_t n_rows, int64_t n,
                      void *y);
    /* y [T,n] (= or +=) the sum over a token's k rows of x [T k,n], times their weights where
     * weighted, the likeliest expert's first. */
    void (*mix)(sp_backend *be, const sp_routing *r, const float *x, bool weighted, int64_t T,
                int64_t n, float *y, bool accumulate);
    /* Of y = weight (W h) by rows: dweight [T k] = dh . h, with dh [T k,n] = W^T dy; then dh and
     * the operand h are multiplied by their row's weight. */
    void (*weigh_bwd)(sp_backend *be, const sp_routing *r, int64_t T, int64_t n, float *dh, void *h,
                      float *dweight);

    /* Sum of exp((x[i] - max) scale) over n values. Neither threads nor scratch: for tasks that run
     * in the pool themselves (sampling). */
    float (*exp_sum)(const float *x, int64_t n, float max, float scale);
} sp_ops;

struct sp_backend {
    const sp_ops *ops;
    sp_pool *pool; /* borrowed */
    sp_compute compute;
    size_t operand_size; /* bytes of an operand element: 4 or 2 */
    bool copies;         /* products read prepared copies alone: sp_weight.data may then go */
    void *state;         /* owned by the implementation: scratch by worker, primitive cache */
    struct {             /* owned: arrays of chain_local, where steps are not put off */
        char *data;
        size_t size, used;
        int64_t T;
    } local;
};

typedef enum sp_backend_kind {
    SP_BACKEND_AUTO,
    SP_BACKEND_REFERENCE,
    SP_BACKEND_TUNED
} sp_backend_kind;

/* AUTO takes the tuned row. Its kernels are those of the CPU's instruction set, capped by the
 * environment's SPAR_MAX_ISA=base|v3|v4|vnni|bf16|amx (for tests). bf16 compute runs on any CPU:
 * where the library has no bf16 product for it, operands are rounded to bf16 and multiplied in f32
 * (the same values, without the speed). */
spar_status sp_backend_create(sp_backend **out, sp_backend_kind kind, sp_compute compute,
                              sp_pool *pool, spar_error *err);
void sp_backend_free(sp_backend *be);

/* One line: instruction set, row, bf16 native or emulated ("avx2, oneDNN 2.6.3, bf16 emulated"). */
const char *sp_backend_describe(const sp_backend *be);
/* Whether bf16 products run in hardware here: the choice of --dtype auto. */
bool sp_backend_has_bf16(void);

#endif
