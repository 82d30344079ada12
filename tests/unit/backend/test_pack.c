/* Layout blocks and transposes of bf16 against their definition, whole and at the edges, and
 * products with them. */
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

/* B [k_rows, columns] as layout blocks, those of a column one after another. */
static uint16_t *pack_b(const sp_simd *simd, const float *x, int64_t k_rows, int64_t columns) {
    uint16_t *packed = array_bytes((size_t)((columns + N - 1) / N * N * k_rows) * sizeof *packed);
    uint16_t *at = packed;
    for (int64_t n = 0; n < columns; n += N) {
        for (int64_t k = 0; k < k_rows; k += K, at += K * N) {
            const int there = (int)(columns - n < N ? columns - n : N);
            simd->pack_rows_f32(x + k * columns + n, columns, K, there, at);
        }
    }
    return packed;
}

static double value(float x) {
    return (double)sp_bf16_to_f32(sp_bf16_from_f32(x));
}

/* A product by tiles against sums in double, and the bits of its rows in another product. */
static void check_product(const sp_simd *simd, int64_t m_rows, int64_t columns, int64_t k_rows,
                          bool accumulate) {
    float *a = array_random(m_rows * k_rows, 1, 1), *b = array_random(k_rows * columns, 2, 1);
    float *c = array_random(m_rows * columns, 3, 1), *want = array_zero(m_rows * columns);
    uint16_t *a16 = array_bytes((size_t)(m_rows * k_rows) * sizeof *a16);
    uint16_t *packed = pack_b(simd, b, k_rows, columns);
    float *last = array_copy(c + (m_rows - 16) * columns, 16 * columns);
    simd->to_bf16(a, m_rows * k_rows, a16);
    for (int64_t m = 0; m < m_rows; m++) {
        for (int64_t n = 0; n < columns; n++) {
            double sum = accumulate ? (double)c[m * columns + n] : 0.0;
            for (int64_t k = 0; k < k_rows; k++) {
                sum += value(a[m * k_rows + k]) * value(b[k * columns + n]);
            }
            want[m * columns + n] = (float)sum;
        }
    }
    sp_layout_product p = {.M = m_rows,
                           .N = columns,
                           .K = k_rows,
                           .a = a16,
                           .b = (const uint32_t *)(const void *)packed,
                           .c = c,
                           .accumulate = accumulate};
    simd->layout_product(&p);
    assert_close("a product by tiles", c, want, m_rows * columns, 2e-6);
    p.M = 16, p.a = a16 + (m_rows - 16) * k_rows, p.c = last;
    simd->layout_product(&p);
    assert_memory_equal(last, c + (m_rows - 16) * columns, 16 * (size_t)columns * sizeof *c);
    free(a);
    free(b);
    free(c);
    free(want);
    free(a16);
    free(packed);
    free(last);
}

static void test_tile_products(void **state) {
    (void)state;
    sp_simd simd;
    sp_simd_choose(sp_cpu_isa(), &simd);
    if (simd.layout_product == NULL) {
        skip();
    }
    static const int64_t rows[] = {16, 32, 48, 128}, columns[] = {16, 32, 64, 80, 208},
                         inner[] = {32, 64, 256, 288, 544};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t j = 0; j < sizeof columns / sizeof columns[0]; j++) {
            for (size_t k = 0; k < sizeof inner / sizeof inner[0]; k++) {
                check_product(&simd, rows[i], columns[j], inner[k], (i + j + k) % 2 == 0);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks),
                                       cmocka_unit_test(test_transposes),
                                       cmocka_unit_test(test_tile_products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
