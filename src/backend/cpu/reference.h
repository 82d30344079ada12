/* The reference row: every op in plain loops, sequential, sums in double. It is what the tuned row
 * is tested against, and its entries serve wherever a tuned one is missing. It keeps no
 * state but the arrays of chain_local. */
#ifndef SP_BACKEND_CPU_REFERENCE_H
#define SP_BACKEND_CPU_REFERENCE_H

#include "backend/backend.h"

const sp_ops *sp_reference_row(void);

/* chain_begin and chain_local where ops run at once: arrays of all T rows. */
enum { SP_CHAIN_LOCALS = 8 }; /* arrays asked for, at most */
spar_status sp_reference_chain_begin(sp_backend *be, int64_t T, size_t local_row, bool put_off,
                                     spar_error *err);
void *sp_reference_chain_local(sp_backend *be, size_t row);

/* Parts of the row that live in reference_attention.c, reference_conv.c and reference_head.c;
 * contracts in backend.h. */
spar_status sp_reference_attention(sp_backend *be, const sp_attention *a, const float *q,
                                   const void *k, const void *v, void *out, float *lse,
                                   spar_error *err);
spar_status sp_reference_relative_attention(sp_backend *be, const sp_relative_attention *a,
                                            const void *q, const void *k, const void *v, void *out,
                                            spar_error *err);
void sp_reference_cache_put(sp_backend *be, const float *x, int64_t n, int heads, int head_dim,
                            void *cache, int64_t cache_rows, bool bf16, int64_t to);
spar_status sp_reference_attention_bwd(sp_backend *be, const sp_attention *a, const float *q,
                                       const float *k, const float *v, const void *out,
                                       const float *lse, const float *dout, float *dq, float *dk,
                                       float *dv, spar_error *err);
void sp_reference_short_conv(sp_backend *be, const sp_short_conv *a, const float *z, void *out);
void sp_reference_short_conv_bwd(sp_backend *be, const sp_short_conv *a, const float *z,
                                 const float *dout, float *dz, float *dw);
spar_status sp_reference_head_logp(sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                                   const void *h, const int32_t *target, int64_t R, float *logp,
                                   float *lse, spar_error *err);
void sp_reference_form_logits(sp_backend *be, const sp_logit_form *form, int64_t n, float *x);
spar_status sp_reference_head_logp_bwd(sp_backend *be, const sp_weight *w,
                                       const sp_logit_form *form, const void *h,
                                       const int32_t *target, const float *lse, const float *c,
                                       int64_t R, float *dh, float *dw, bool accumulate,
                                       spar_error *err);

#endif
