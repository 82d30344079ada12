/* The judge kind "verifier": a method, or the checker of a task family, on each response. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "judge/kind.h"
#include "judge/verifier.h"
#include "spar/tasks.h"

typedef spar_status (*verify_fn)(sp_text reference, sp_text response, double *score,
                                 spar_error *err);

typedef struct verifier {
    verify_fn fn; /* NULL: family */
    int family;
} verifier;

static spar_status verify_exact(sp_text reference, sp_text response, double *score,
                                spar_error *err) {
    const sp_text a = sp_text_trim(reference), b = sp_text_trim(response);
    (void)err;
    *score = a.n == b.n && memcmp(a.at, b.at, a.n) == 0;
    return SPAR_OK;
}

#define VERIFY_PASS(name)                                                                          \
    static spar_status verify_##name(sp_text reference, sp_text response, double *score,           \
                                     spar_error *err) {                                            \
        bool pass = false;                                                                         \
        const spar_status status = sp_verify_##name(reference, response, &pass, err);              \
        *score = pass;                                                                             \
        return status;                                                                             \
    }
VERIFY_PASS(number)
VERIFY_PASS(choice)
VERIFY_PASS(regex)

static const struct {
    const char *name;
    verify_fn fn;
} methods[] = {{"exact", verify_exact},
               {"number", verify_number},
               {"choice", verify_choice},
               {"regex", verify_regex},
               {"set", sp_verify_set}};
enum { N_METHODS = sizeof methods / sizeof methods[0] };

static spar_status find_method(verifier *v, const char *name, spar_error *err) {
    for (int i = 0; i < N_METHODS; i++) {
        if (strcmp(methods[i].name, name) == 0) {
            v->fn = methods[i].fn;
            return SPAR_OK;
        }
    }
    if (spar_family_find(name, &v->family, err) == SPAR_OK) {
        return SPAR_OK;
    }
    return spar_fail(err, SPAR_NOT_FOUND,
                     "judge verifier: expected exact, number, choice, regex, set or the name of a "
                     "task family, found '%.64s'",
                     name);
}

static spar_status verifier_open(void **context, const char *model,
                                 const spar_judge_options *options, spar_error *err) {
    (void)options;
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_mem_calloc(context, 1, sizeof(verifier), err));
    SPAR_TRY(find_method(*context, model, err));
done:
    return status;
}

/* A reference as text: a string, a number as JSON writes it, or the lines of a list. */
static spar_status put_reference(sp_str *text, const json_t *reference, spar_error *err) {
    const size_t n = json_array_size(reference);
    for (size_t i = 0; i < n; i++) {
        const json_t *member = json_array_get(reference, i);
        if (!json_is_string(member)) {
            return spar_fail(err, SPAR_FORMAT, "reference[%zu]: expected a string, found %s", i,
                             sp_json_type_name(member));
        }
        sp_str_append(text, json_string_value(member), json_string_length(member));
        sp_str_putc(text, '\n');
    }
    if (json_is_string(reference)) {
        sp_str_append(text, json_string_value(reference), json_string_length(reference));
    } else if (json_is_integer(reference)) {
        sp_str_printf(text, "%lld", (long long)json_integer_value(reference));
    } else if (json_is_real(reference)) {
        char *number = json_dumps(reference, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        sp_str_puts(text, number ? number : "");
        free(number);
    } else if (n == 0) {
        return spar_fail(err, SPAR_FORMAT,
                         "reference: expected a string, a number or a list of strings, found %s",
                         json_is_array(reference) ? "an empty list" : sp_json_type_name(reference));
    }
    return sp_str_status(text, err);
}

static double check_family(int family, const sp_str *answer, sp_text response) {
    const spar_task task = {.family = family, .prompt = "", .answer = sp_str_get(answer)};
    bool lenient = false;
    spar_task_check(&task, response.at, response.n, NULL, &lenient);
    return lenient;
}

static spar_status verifier_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const verifier *v = context;
    sp_str reference = SP_STR_INIT;
    SPAR_TRY(put_reference(&reference, item->reference, err));
    for (size_t i = 0; i < item->k; i++) {
        const json_t *text = json_array_get(item->responses, i);
        const sp_text response = {json_string_value(text), json_string_length(text)};
        if (!v->fn) {
            out->scores[i] = check_family(v->family, &reference, response);
            continue;
        }
        SPAR_TRY(v->fn((sp_text){sp_str_get(&reference), reference.len}, response, &out->scores[i],
                       err));
    }
done:
    sp_str_release(&reference);
    return status;
}

const sp_judge_kind sp_judge_verifier = {.name = "verifier",
                                         .fills = SP_JUDGE_FILLS_SCORES,
                                         .open = verifier_open,
                                         .judge = verifier_judge,
                                         .close = free};
