/* Every parameter of every method has its option, in recipes and in spar train, which take their
 * rows from one table (spar/method.h); its bounds are those of the methods together. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "spar/play.h"
#include "train/objective.h"

typedef struct values {
    double params[SPAR_PARAM_COUNT];
} values;
static const spar_option train_rows[] = {SPAR_METHOD_ROWS(values, params, "clip-low"){0}};

/* An option spells a parameter's name with hyphens; that of clip is the caller's. */
static const spar_option *find(const spar_option *table, const char *name) {
    for (; table->name; table++) {
        bool same = strlen(table->name) == strlen(name);
        for (size_t i = 0; same && name[i]; i++) {
            same = name[i] == (table->name[i] == '-' ? '_' : table->name[i]);
        }
        if (same) {
            return table;
        }
    }
    return NULL;
}

static const spar_option *recipe_rows(void) {
    const char *name;
    const spar_option *table;
    for (int i = 0; (table = spar_recipe_section(i, &name)); i++) {
        if (strcmp(name, "arms") == 0) {
            return table;
        }
    }
    fail_msg("recipes have no section arms");
    return NULL;
}

static sp_objective objective_at(int i) {
    sp_objective o;
    spar_error err;
    assert_int_equal(sp_objective_find(&o, sp_objective_name_at(i), &err), SPAR_OK);
    return o;
}

static void test_every_parameter_has_its_option(void **state) {
    (void)state;
    int checked = 0;
    for (int i = 0; i < sp_objective_count(); i++) {
        const sp_objective o = objective_at(i);
        for (const sp_tunable *t = o.tunables; t->name; t++, checked++) {
            const spar_option *recipe = find(recipe_rows(), t->name);
            const spar_option *train =
                find(train_rows, strcmp(t->name, "clip") == 0 ? "clip_low" : t->name);
            if (!recipe || !train) {
                fail_msg("%s: %s has no option", o.name, t->name);
            }
            assert_true(recipe->min == SPAR_PARAM_OWN && train->min == SPAR_PARAM_OWN);
            assert_true(recipe->max >= t->max && train->max == recipe->max);
        }
    }
    assert_true(checked > 2 * SPAR_PARAM_COUNT);
}

/* Given as the only one, a value reaches the methods that have the parameter and no others; so no
 * option is without a method. */
static void test_values_reach_their_methods(void **state) {
    (void)state;
    for (int p = 0; p < SPAR_PARAM_COUNT; p++) {
        int taken = 0;
        double widest = 0;
        for (int i = 0; i < sp_objective_count(); i++) {
            sp_objective o = objective_at(i);
            values v;
            spar_error err;
            assert_int_equal(spar_options_default(train_rows, &v, &err), SPAR_OK);
            v.params[p] = 0.375;
            const double before[SP_OBJECTIVE_MAX_PARAMS] = {o.params[0], o.params[1], o.params[2],
                                                            o.params[3]};
            if (sp_objective_set_given(&o, v.params, &err) != SPAR_OK) {
                continue;
            }
            int changed = 0;
            for (int k = 0; k < sp_tunable_count(o.tunables); k++) {
                if (o.params[k] != before[k]) {
                    assert_true(o.params[k] == 0.375);
                    widest = fmax(widest, o.tunables[k].max);
                    changed++;
                }
            }
            assert_int_equal(changed, 1);
            taken++;
        }
        if (p == SPAR_PARAM_CONSTANT) { /* at least 1 */
            continue;
        }
        assert_in_range(taken, 1, sp_objective_count() - 1);
        assert_true(train_rows[p].max == widest);
    }
}

static void refused(const char *method, int param, double value, const char *part) {
    sp_objective o;
    values v;
    spar_error err;
    assert_int_equal(sp_objective_find(&o, method, &err), SPAR_OK);
    assert_int_equal(spar_options_default(train_rows, &v, &err), SPAR_OK);
    assert_int_equal(sp_objective_set_given(&o, v.params, &err), SPAR_OK);
    v.params[param] = value;
    assert_int_equal(sp_objective_set_given(&o, v.params, &err), SPAR_INVALID);
    if (!strstr(err.message, part)) {
        fail_msg("'%s' lacks '%s'", err.message, part);
    }
}

static void test_refusals(void **state) {
    (void)state;
    refused("sft", SPAR_PARAM_BETA, 1, "method sft: has no parameter beta");
    refused("simpo", SPAR_PARAM_LABEL_SMOOTHING, 0.1,
            "method simpo: has no parameter label_smoothing; it has beta, gamma");
    refused("dpo", SPAR_PARAM_CLIP, 0.1, "clip; it has beta, label_smoothing");
    refused("dr_grpo", SPAR_PARAM_CONSTANT, 0.5, "expected a number from 1 to 1e+09, found 0.5");
    refused("dpo", SPAR_PARAM_BETA, -0.5, "expected a number from 1e-06");
    refused("grpo", SPAR_PARAM_MIXTURE, 0.5, "grpo: has no parameter mixture");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_parameter_has_its_option),
        cmocka_unit_test(test_values_reach_their_methods),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
