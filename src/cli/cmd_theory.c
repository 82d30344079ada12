/* spar theory: the theorems as tables, and the von Neumann winner of a matrix. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "spar/theory.h"

typedef struct theory_values {
    int64_t responses, seed;
    double tau;
    const char *game;
    bool json;
} theory_values;

#define THEORY(field) offsetof(theory_values, field)
static const spar_option theory_options[] = {
    {"game", 'g', SPAR_OPTION_STRING, THEORY(game), NULL, 0, 0, NULL, "FILE",
     "the optimal strategies of a payoff matrix in place of the theorems: a JSON list of rows, "
     "P(i preferred to j) or any payoff of the row player"},
    {"responses", 'n', SPAR_OPTION_INT, THEORY(responses), "5", 2, 64, NULL, "N",
     "responses of a tabular policy"},
    {"tau", 0, SPAR_OPTION_NUMBER, THEORY(tau), "0.1", 0.01, 100, NULL, "X",
     "weight of the KL term (INPO)"},
    {"seed", 's', SPAR_OPTION_INT, THEORY(seed), "0", 0, 9e15, NULL, "N",
     "seed of the random policies and games"},
    {"json", 0, SPAR_OPTION_FLAG, THEORY(json), NULL, 0, 0, NULL, NULL,
     "print JSON, a row a table"},
    {0}};

static void put_cell(const json_t *cell, int width) {
    if (json_is_string(cell)) {
        printf("%-*s  ", width, json_string_value(cell));
    } else if (json_is_integer(cell)) {
        printf("%*lld  ", width, (long long)json_integer_value(cell));
    } else {
        printf("%*.6g  ", width, json_real_value(cell));
    }
}

/* A column of text is as wide as its longest cell, one of numbers holds six digits at least. */
static int column_width(const json_t *table, size_t column) {
    const json_t *rows = json_object_get(table, "rows"), *row;
    size_t i, width = json_string_length(json_array_get(json_object_get(table, "columns"), column));
    json_array_foreach(rows, i, row) {
        const json_t *cell = json_array_get(row, column);
        const size_t need = json_is_string(cell) ? json_string_length(cell) : 12;
        width = need > width ? need : width;
    }
    return (int)width;
}

static void put_table(const json_t *table) {
    const json_t *columns = json_object_get(table, "columns"),
                 *rows = json_object_get(table, "rows");
    const json_t *row, *cell;
    size_t i, c;
    printf("%s: %s\n%s\n\n", json_string_value(json_object_get(table, "theorem")),
           json_is_true(json_object_get(table, "holds")) ? "holds" : "DOES NOT HOLD",
           json_string_value(json_object_get(table, "statement")));
    json_array_foreach(columns, c, cell) {
        const bool text = json_is_string(json_array_get(json_array_get(rows, 0), c));
        printf(text ? "%-*s  " : "%*s  ", column_width(table, c), json_string_value(cell));
    }
    printf("\n");
    json_array_foreach(rows, i, row) {
        json_array_foreach(row, c, cell) {
            put_cell(cell, column_width(table, c));
        }
        printf("\n");
    }
    printf("\n");
}

static void put_strategy(const char *name, const json_t *weights) {
    const json_t *weight;
    size_t i;
    printf("%s:", name);
    json_array_foreach(weights, i, weight) {
        printf(" %.6g", json_real_value(weight));
    }
    printf("\n");
}

static spar_status run_game(const theory_values *v, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *solved = NULL;
    SPAR_TRY(spar_theory_game(v->game, &solved, err));
    if (v->json) {
        SPAR_TRY(cli_put_row(json_incref(solved), err));
        goto done;
    }
    put_strategy("rows", json_object_get(solved, "rows"));
    put_strategy("columns", json_object_get(solved, "columns"));
    printf("value: %.6g, duality gap: %.3g\n", json_real_value(json_object_get(solved, "value")),
           json_real_value(json_object_get(solved, "gap")));
done:
    json_decref(solved);
    return status;
}

static spar_status run_theory(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const theory_values *v = values;
    const spar_theory_options options = {
        .responses = v->responses, .seed = (uint64_t)v->seed, .tau = v->tau};
    json_t *table = NULL;
    int failed = 0;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "no operand", err));
    if (v->game) {
        SPAR_TRY(run_game(v, err));
        goto done;
    }
    for (int i = 0; i < spar_theory_count(); i++) {
        SPAR_TRY(spar_theory_table(i, &options, &table, err));
        failed += !json_is_true(json_object_get(table, "holds"));
        if (v->json) {
            SPAR_TRY(cli_put_row(json_incref(table), err));
        } else {
            put_table(table);
        }
        json_decref(table);
        table = NULL;
    }
    if (failed > 0) {
        SPAR_TRY(spar_fail(err, SPAR_INTERNAL, "%d of %d theorems do not hold", failed,
                           spar_theory_count()));
    }
done:
    json_decref(table);
    return status;
}

static theory_values the_values;
const cli_command cli_theory = {
    .doc = {.name = "theory",
            .synopsis = "[--json] [--game FILE]",
            .summary = "the theorems behind the methods, computed on small games",
            .details = "Tabular policies and exact expectations, over the same loss rows that "
                       "training uses. The exit status is 12 where a theorem does not hold.",
            .options = theory_options},
    .run = run_theory,
    .values = &the_values};
