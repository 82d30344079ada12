/* The code books of ggml's types IQ1, IQ2 and IQ3, as facts of the file format: an entry is a word
 * whose lowest bits are the place of the first element among the book's few values, the next ones
 * that of the second, and so on. 2 bits an element and 8 elements for iq1 and iq2, 3 bits and 4
 * elements for iq3. Source: ggml-common.h of llama.cpp, by the gguf package
 * (tools/make_codebooks.py). */
#ifndef SP_TENSOR_CODEBOOK_VALUES_H
#define SP_TENSOR_CODEBOOK_VALUES_H

#include <stdint.h>

extern const uint16_t sp_iq1_s_words[2048];
extern const uint16_t sp_iq2_xxs_words[256];
extern const uint16_t sp_iq2_xs_words[512];
extern const uint16_t sp_iq2_s_words[1024];
extern const uint16_t sp_iq3_xxs_words[256];
extern const uint16_t sp_iq3_s_words[512];

#endif
