/* Runs a harness without libFuzzer: replay CORPUS [COUNT [FIRST]]
 *
 * Every file of the folder CORPUS, then COUNT mutations of them, numbered from FIRST. A mutation
 * is a function of its number and the corpus alone, so a crash is found again by narrowing the
 * range of numbers.
 */
#include <stdbool.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "fuzz.h"

enum { INPUT_MAX = 1 << 16, MAX_EDITS = 6 };

typedef struct input {
    uint8_t bytes[INPUT_MAX];
    size_t n;
} input;

static void fail(const spar_error *err) {
    fprintf(stderr, "replay: %s\n", err->message);
    exit(1);
}

/* The harness sees a block of just the input's size, so that reading past it shows. */
static void run(const input *in) {
    uint8_t *copy = malloc(in->n ? in->n : 1);
    if (!copy) {
        exit(1);
    }
    memcpy(copy, in->bytes, in->n);
    LLVMFuzzerTestOneInput(copy, in->n);
    free(copy);
}

static void load(input *in, const char *dir, const char *name) {
    char *path = NULL, *text = NULL;
    spar_error err;
    if (sp_path_join(&path, dir, name, &err) != SPAR_OK ||
        sp_file_read(path, INPUT_MAX, &text, &in->n, &err) != SPAR_OK) {
        fail(&err);
    }
    memcpy(in->bytes, text, in->n);
    free(path);
    free(text);
}

/* Values that parsers trip over, as little-endian numbers of 1, 2, 4 or 8 bytes. */
static void plant_number(input *in, size_t at, sp_rng *rng) {
    static const uint64_t numbers[] = {0,          1,          UINT64_MAX, INT64_MAX, INT32_MAX,
                                       UINT32_MAX, 1ULL << 62, 255,        32,        13};
    const uint64_t value = numbers[sp_rng_next_below(rng, sizeof numbers / sizeof numbers[0])];
    const size_t width = (size_t)1 << sp_rng_next_below(rng, 4);
    for (size_t i = 0; i < width && at + i < in->n; i++) {
        in->bytes[at + i] = (uint8_t)(value >> (8 * i));
    }
}

/* Put a copy of bytes from elsewhere in the input at a place. */
static void insert_copy(input *in, size_t at, sp_rng *rng) {
    const size_t from = sp_rng_next_below(rng, in->n);
    size_t n = 1 + sp_rng_next_below(rng, 32);
    n = n < in->n - from ? n : in->n - from;
    if (in->n + n <= INPUT_MAX) {
        uint8_t piece[32];
        memcpy(piece, in->bytes + from, n);
        memmove(in->bytes + at + n, in->bytes + at, in->n - at);
        memcpy(in->bytes + at, piece, n);
        in->n += n;
    }
}

static void edit(input *in, sp_rng *rng) {
    const size_t at = sp_rng_next_below(rng, in->n);
    size_t n = 1 + sp_rng_next_below(rng, 16);
    switch (sp_rng_next_below(rng, 6)) {
    case 0:
        in->bytes[at] ^= (uint8_t)(1U << sp_rng_next_below(rng, 8));
        break;
    case 1:
        in->bytes[at] = (uint8_t)sp_rng_next_below(rng, 256);
        break;
    case 2:
        in->bytes[at] = (uint8_t) "{}[]\",:\\0-.%#\n "[sp_rng_next_below(rng, 15)];
        break;
    case 3:
        plant_number(in, at, rng);
        break;
    case 4:
        insert_copy(in, at, rng);
        break;
    default:
        n = n < in->n - at ? n : in->n - at;
        memmove(in->bytes + at, in->bytes + at + n, in->n - at - n);
        in->n -= n;
    }
}

static void mutate(const char *dir, char **names, size_t n_files, uint64_t number) {
    static input in;
    sp_rng rng = {1, number, 0};
    load(&in, dir, names[sp_rng_next_below(&rng, n_files)]);
    for (uint64_t left = 1 + sp_rng_next_below(&rng, MAX_EDITS); left > 0 && in.n > 0; left--) {
        edit(&in, &rng);
    }
    run(&in);
}

int main(int argc, char **argv) {
    static input in;
    char **names = NULL;
    size_t n = 0;
    spar_error err;
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: %s CORPUS [COUNT [FIRST]]\n", argv[0]);
        return 2;
    }
    const uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    const uint64_t first = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    if (sp_dir_list(argv[1], &names, &n, &err) != SPAR_OK) {
        fail(&err);
    }
    for (size_t i = 0; i < n; i++) {
        load(&in, argv[1], names[i]);
        run(&in);
    }
    for (uint64_t i = 0; i < count && n > 0; i++) {
        mutate(argv[1], names, n, first + i);
    }
    printf("%zu files, %llu mutations\n", n, (unsigned long long)(n > 0 ? count : 0));
    sp_names_free(names, n);
    return n > 0 ? 0 : 1;
}
