/* Block types as another implementation writes and reads them (tools/make_gguf_blocks.py,
 * make_gguf_kblocks.py, make_gguf_bits.py): the same bits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "io/gguf.h"

enum { MAX_ELEMENTS = 1024 };

static void check(const sp_gguf *g, sp_dtype dtype, const char *type, int64_t rows, int64_t cols) {
    char name[32];
    float out[MAX_ELEMENTS];
    snprintf(name, sizeof name, "q.%s", type);
    const sp_gguf_tensor *stored = sp_gguf_find_tensor(g, name);
    snprintf(name, sizeof name, "f.%s", type);
    const sp_gguf_tensor *expected = sp_gguf_find_tensor(g, name);
    assert_true(stored && expected && stored->dtype == dtype && expected->dtype == SP_F32);
    assert_true(stored->n_dims == 2 && stored->dims[0] == rows && stored->dims[1] == cols);
    assert_int_equal(expected->n_bytes, (size_t)(rows * cols) * sizeof *out);
    assert_true(rows * cols <= MAX_ELEMENTS);
    sp_dtype_info_of(dtype)->to_f32(stored->data, out, rows * cols);
    assert_memory_equal(out, expected->data, expected->n_bytes);
}

static void same_bits(void **state) {
    (void)state;
    sp_gguf *g = NULL;
    spar_error err;
    if (sp_gguf_open(&g, SPAR_SOURCE_DIR "/tests/golden/gguf_blocks.gguf", &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(sp_gguf_tensor_count(g), 15);
    check(g, SP_Q4_0, "Q4_0", 3, 96);
    check(g, SP_Q4_1, "Q4_1", 3, 96);
    check(g, SP_Q5_0, "Q5_0", 3, 96);
    check(g, SP_Q5_1, "Q5_1", 3, 96);
    check(g, SP_Q8_0, "Q8_0", 3, 96);
    check(g, SP_BF16, "BF16", 3, 96);
    check(g, SP_F16, "F16", 3, 96);
    sp_gguf_free(g);
}

static void same_bits_of_super_blocks(void **state) {
    (void)state;
    sp_gguf *g = NULL;
    spar_error err;
    if (sp_gguf_open(&g, SPAR_SOURCE_DIR "/tests/golden/gguf_kblocks.gguf", &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    check(g, SP_Q2_K, "Q2_K", 4, 256);
    check(g, SP_Q3_K, "Q3_K", 4, 256);
    check(g, SP_Q4_K, "Q4_K", 4, 256);
    check(g, SP_Q5_K, "Q5_K", 4, 256);
    check(g, SP_Q6_K, "Q6_K", 4, 256);
    check(g, SP_IQ4_NL, "IQ4_NL", 4, 32);
    check(g, SP_IQ4_XS, "IQ4_XS", 4, 256);
    check(g, SP_TQ1_0, "TQ1_0", 4, 256);
    check(g, SP_TQ2_0, "TQ2_0", 4, 256);
    check(g, SP_MXFP4, "MXFP4", 4, 32);
    check(g, SP_NVFP4, "NVFP4", 4, 64);
    check(g, SP_IQ1_S, "IQ1_S", 4, 256);
    check(g, SP_IQ1_M, "IQ1_M", 4, 256);
    check(g, SP_IQ2_XXS, "IQ2_XXS", 4, 256);
    check(g, SP_IQ2_XS, "IQ2_XS", 4, 256);
    check(g, SP_IQ2_S, "IQ2_S", 4, 256);
    check(g, SP_IQ3_XXS, "IQ3_XXS", 4, 256);
    check(g, SP_IQ3_S, "IQ3_S", 4, 256);
    sp_gguf_free(g);
}

static void same_bits_of_bits(void **state) {
    (void)state;
    sp_gguf *g = NULL;
    spar_error err;
    if (sp_gguf_open(&g, SPAR_SOURCE_DIR "/tests/golden/gguf_bits.gguf", &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    check(g, SP_Q1_0, "Q1_0", 4, 256);
    check(g, SP_Q2_0, "Q2_0", 4, 128);
    sp_gguf_free(g);
}

/* The numbers in each type that is written. */
static void same_blocks(void **state) {
    (void)state;
    static const struct {
        sp_dtype dtype;
        const char *name;
    } types[] = {{SP_Q4_0, "q.Q4_0"},
                 {SP_Q5_0, "q.Q5_0"},
                 {SP_Q8_0, "q.Q8_0"},
                 {SP_BF16, "q.BF16"},
                 {SP_F16, "q.F16"}};
    sp_gguf *g = NULL;
    spar_error err;
    if (sp_gguf_open(&g, SPAR_SOURCE_DIR "/tests/golden/gguf_blocks.gguf", &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    const sp_gguf_tensor *numbers = sp_gguf_find_tensor(g, "n");
    assert_non_null(numbers);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char out[2 * MAX_ELEMENTS];
        const sp_gguf_tensor *want = sp_gguf_find_tensor(g, types[i].name);
        assert_non_null(want);
        sp_dtype_info_of(types[i].dtype)->from_f32(numbers->data, out, 3 * 96);
        assert_memory_equal(out, want->data, want->n_bytes);
    }
    sp_gguf_free(g);
}

/* Q4_K: no element is farther from what it becomes than half a step, and what the 6 bits of the
 * scales leave open. */
static void four_bits_of_super_blocks(void **state) {
    (void)state;
    enum { N = 512 };
    float x[N], back[N];
    uint8_t blocks[2 * 144];
    for (int i = 0; i < N; i++) {
        const float wave = sinf((float)(i * i % 97)) + (i % 64 < 32 ? 0.25F : 0.0F);
        x[i] = i < 256 ? wave * (1.0F + (float)(i / 32) / 8.0F) : 0.0F; /* a block of zeros too */
    }
    sp_dtype_info_of(SP_Q4_K)->from_f32(x, blocks, N);
    sp_dtype_info_of(SP_Q4_K)->to_f32(blocks, back, N);
    float most = 0.0F;
    for (int i = 0; i < 256; i++) {
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    }
    for (int i = 0; i < N; i++) {
        assert_true(fabsf(x[i] - back[i]) <= (i < 256 ? most * (1.0F / 15 + 2.0F / 63) : 0.0F));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits), cmocka_unit_test(same_bits_of_super_blocks),
        cmocka_unit_test(same_bits_of_bits), cmocka_unit_test(same_blocks),
        cmocka_unit_test(four_bits_of_super_blocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
