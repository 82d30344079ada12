/* Weight-decomposed adapters (DoRA, arXiv 2402.09353, equation 5): with V = W + s B A,
 *     y = (m / |V|) (V x) + bias,
 * a magnitude m for each output and |V| the length of its row of V. As the paper (section 4.3) and
 * PEFT have it, |V| is a constant in the backward.
 */
#ifndef SP_MODEL_DORA_H
#define SP_MODEL_DORA_H

#include "model/lora.h"

/* Magnitudes that change nothing: m = |V| of each adapter. */
spar_status sp_dora_init(spar_model *model, spar_error *err);
/* Renew the lengths and m / |V| after values changed; A's copies are prepared in both directions.
 */
spar_status sp_dora_prepare(spar_model *model, spar_error *err);
/* Scale merged rows V [rows, cols] of an adapter to their magnitudes. */
void sp_dora_merge(const struct sp_lora *lora, const sp_adapter *adapter, float *out);

#endif
