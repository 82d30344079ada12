/* Layout blocks and transposes of bf16 against their definition, whole and at the edges. */
#include "compare.h"
#include "tensor/dtype.h"

enum { K = SP_LAYOUT_K, N = SP_LAYOUT_N, ROW = 131 };

static uint16_t block_at(const uint16_t *block, int k, int n) {
    return block[k / 2 * 2 * N + 2 * n + k % 2];
}

/* (k, n) of a source, as bf16, by the way that it is read. */
typedef enum source { ROWS_F32, ROWS_BF16, COLUMNS_F32 } source;

static uint16_t source_at(const float *x, const uint16_t *x16, source from, int k, int n) {
    const int64_t at = from == COLUMNS_F32 ? (int64_t)n * ROW + k : (int64_t)k * ROW + n;
    return from == ROWS_BF16 ? x16[at] : sp_bf16_from_f32(x[at]);
}

static void check_block(const sp_simd *simd, source from, int rows, int columns) {
    float *x = array_random(ROW * ROW, 1, 3);
    x[0] = NAN, x[1] = -INFINITY, x[2] = 3e38F;
    uint16_t *x16 = array_bytes(ROW * ROW * sizeof *x16);
    uint16_t *block = array_bytes(K * N * sizeof *block);
    for (int i = 0; i < ROW * ROW; i++) {
        x16[i] = sp_bf16_from_f32(x[i]);
    }
    memset(block, 0xAA, K * N * sizeof *block);
    if (from == ROWS_BF16) {
        simd->pack_rows_bf16(x16, ROW, rows, columns, block);
    } else if (from == ROWS_F32) {
        simd->pack_rows_f32(x, ROW, rows, columns, block);
    } else {
        simd->pack_columns_f32(x, ROW, rows, columns, block);
    }
    for (int k = 0; k < K; k++) {
        for (int n = 0; n < N; n++) {
            const bool there = k < rows && n < columns;
            assert_int_equal(block_at(block, k, n), there ? source_at(x, x16, from, k, n) : 0);
        }
    }
    free(x);
    free(x16);
    free(block);
}

static void test_blocks(void **state) {
    (void)state;
    sp_simd simd;
    sp_simd_choose(sp_cpu_isa(), &simd);
    static const int sizes[][2] = {{K, N}, {1, 1}, {7, 63}, {K, 63}, {31, N}, {2, 16}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (source from = ROWS_F32; from <= COLUMNS_F32; from++) {
            check_block(&simd, from, sizes[i][0], sizes[i][1]);
        }
    }
}

static void check_transpose(const sp_simd *simd, int64_t rows, int64_t columns, int64_t offset) {
    const int64_t y_row = rows + 32;
    uint16_t *x = array_bytes((size_t)(rows * columns) * sizeof *x);
    uint16_t *y = array_bytes((size_t)(columns * y_row + offset) * sizeof *y);
    for (int64_t i = 0; i < rows * columns; i++) {
        x[i] = (uint16_t)(i * 31 + 7);
    }
    memset(y, 0xAA, (size_t)(columns * y_row + offset) * sizeof *y);
    simd->transpose_bf16(x, columns, rows, columns, y + offset, y_row);
    for (int64_t c = 0; c < columns; c++) {
        for (int64_t r = 0; r < y_row; r++) {
            assert_int_equal(y[offset + c * y_row + r], r < rows ? x[r * columns + c] : 0xAAAA);
        }
    }
    free(x);
    free(y);
}

static void test_transposes(void **state) {
    (void)state;
    sp_simd simd;
    sp_simd_choose(sp_cpu_isa(), &simd);
    static const int64_t sizes[] = {1, 7, 16, 32, 63, 65, 128};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
            check_transpose(&simd, sizes[i], sizes[j], 0);
            check_transpose(&simd, sizes[i], sizes[j], 1); /* no line begins where one is written */
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks),
                                       cmocka_unit_test(test_transposes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
