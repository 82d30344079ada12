/* Expressions, scopes and calls. */
#include "text/jinja_eval.h"
#include "text/jinja_marks.h"

#include <string.h>

/* ---- scopes ---- */

sp_jscope *sp_jinja_scope(sp_jinja *r, sp_jscope *parent) {
    sp_jscope *scope = sp_jinja_alloc(r, sizeof *scope);
    if (scope != NULL) {
        scope->parent = parent;
    }
    return scope;
}

static sp_jvar *find_var(const sp_jscope *scope, const sp_jstr *name) {
    sp_jvar *var = scope->vars;
    while (var != NULL && !sp_jinja_same_text(var->name, name)) {
        var = var->next;
    }
    return var;
}

bool sp_jinja_assign(sp_jinja *r, sp_jscope *scope, const sp_jstr *name, sp_jval value) {
    if (value.kind == J_FAIL) {
        return false;
    }
    sp_jvar *var = find_var(scope, name);
    if (var == NULL) {
        var = sp_jinja_alloc(r, sizeof *var);
        if (var == NULL) {
            return false;
        }
        *var = (sp_jvar){.name = name, .next = scope->vars};
        scope->vars = var;
    }
    var->value = value;
    return true;
}

bool sp_jinja_define(sp_jinja *r, sp_jscope *scope, const char *name, sp_jval value) {
    const sp_jval text = sp_jinja_text(r, name, strlen(name));
    return text.kind == J_STR && sp_jinja_assign(r, scope, text.s, value);
}

sp_jval sp_jinja_lookup(sp_jinja *r, const sp_jscope *scope, const sp_jstr *name) {
    for (; scope != NULL; scope = scope->parent) {
        const sp_jvar *var = find_var(scope, name);
        if (var != NULL && var->value.kind == J_ABSENT) {
            break;
        }
        if (var != NULL) {
            return var->value;
        }
    }
    return sp_jinja_undefined(r, "'%.*s' is undefined", (int)(name->n < 200 ? name->n : 200),
                              name->s);
}

/* ---- calls ---- */

const sp_jrow *sp_jinja_find_row(const sp_jrow *table, sp_jval name, unsigned kinds) {
    for (; table->name != NULL; table++) {
        if (sp_jinja_is(name, table->name) && (kinds == 0 || (table->kinds & kinds) != 0)) {
            return table;
        }
    }
    return NULL;
}

static bool bind_named(sp_jinja *r, const sp_jrow *row, const sp_jargs *args, const char *param,
                       size_t n, sp_jval *out, size_t *used) {
    for (size_t i = 0; i < args->n_named; i++) {
        const sp_jstr *name = args->names[i].s;
        if (name->n == n && memcmp(name->s, param, n) == 0) {
            if (out->kind != J_ABSENT) {
                sp_jinja_error(r, SPAR_INVALID, "%s() got multiple values for argument '%.*s'",
                               row->name, (int)n, param);
                return false;
            }
            *out = args->values[i];
            ++*used;
        }
    }
    return true;
}

/* Put args into the places that row->params names. */
static bool bind(sp_jinja *r, const sp_jrow *row, const sp_jargs *args, sp_jval *out) {
    const char *param = row->params;
    size_t count = 0;
    size_t used = 0;
    while (*param != '\0') {
        const bool optional = *param == '?';
        param += optional;
        const size_t n = strcspn(param, ",");
        out[count] = count < args->n_pos ? args->pos[count] : (sp_jval){.kind = J_ABSENT};
        if (!bind_named(r, row, args, param, n, &out[count], &used)) {
            return false;
        }
        if (out[count].kind == J_ABSENT && !optional) {
            sp_jinja_error(r, SPAR_INVALID, "%s() misses its argument '%.*s'", row->name, (int)n,
                           param);
            return false;
        }
        count++;
        param += n + (param[n] == ',');
    }
    if (args->n_pos > count || used < args->n_named) {
        sp_jinja_error(r, SPAR_INVALID, "%s() takes at most %zu arguments, or got an unknown one",
                       row->name, count);
        return false;
    }
    return true;
}

sp_jval sp_jinja_run_row(sp_jinja *r, const sp_jrow *row, sp_jval self, const sp_jargs *args) {
    sp_jval bound[SP_JINJA_PARAMS] = {{.kind = J_ABSENT}};
    if (row->params != NULL && !bind(r, row, args, bound)) {
        return sp_jinja_failed();
    }
    const sp_jval v = row->run(r, self, bound, args);
    return r->failed ? sp_jinja_failed() : v;
}

sp_jval sp_jinja_callable(sp_jinja *r, sp_jcallable c) {
    sp_jcallable *copy = sp_jinja_alloc(r, sizeof *copy);
    if (copy == NULL) {
        return sp_jinja_failed();
    }
    *copy = c;
    return (sp_jval){.kind = J_CALLABLE, .call = copy};
}

static sp_jval call_any(sp_jinja *r, sp_jval callee, const sp_jargs *args) {
    switch (callee.kind) {
    case J_CALLABLE:
        return callee.call->row == NULL
                   ? sp_jinja_call_macro(r, callee.call, args)
                   : sp_jinja_run_row(r, callee.call->row, callee.call->self, args);
    case J_LOOP:
        return sp_jinja_call_loop(r, callee.loop, args);
    case J_JOINER:
        return callee.l->pos++ == 0 ? sp_jinja_text(r, "", 0) : callee.l->items[0];
    case J_UNDEF:
        return sp_jinja_fail(r, SPAR_INVALID, "%s", callee.undef);
    case J_FAIL:
        return callee;
    default:
        return sp_jinja_fail(r, SPAR_INVALID, "'%s' object is not callable",
                             sp_jinja_type_name(callee));
    }
}

sp_jval sp_jinja_call(sp_jinja *r, sp_jval callee, const sp_jargs *args) {
    if (!sp_jinja_enter(r)) {
        return sp_jinja_failed();
    }
    const sp_jval v = call_any(r, callee, args);
    sp_jinja_leave(r);
    return r->failed ? sp_jinja_failed() : v;
}

sp_jval sp_jinja_filter(sp_jinja *r, sp_jval name, sp_jval value, const sp_jargs *args) {
    const sp_jrow *row = sp_jinja_find_row(sp_jinja_filters, name, 0);
    if (row == NULL) {
        return sp_jinja_fail(r, SPAR_INVALID, "no filter named '%s'",
                             name.kind == J_STR ? name.s->s : "?");
    }
    return value.kind == J_FAIL ? value : sp_jinja_run_row(r, row, value, args);
}

bool sp_jinja_test(sp_jinja *r, sp_jval name, sp_jval value, const sp_jargs *args, bool *verdict) {
    const sp_jrow *row = sp_jinja_find_row(sp_jinja_tests, name, 0);
    if (row == NULL) {
        sp_jinja_error(r, SPAR_INVALID, "no test named '%s'", name.kind == J_STR ? name.s->s : "?");
        return false;
    }
    *verdict = value.kind != J_FAIL && sp_jinja_truth(sp_jinja_run_row(r, row, value, args));
    return !r->failed;
}

sp_jargs sp_jinja_rest(const sp_jargs *args, size_t n) {
    sp_jargs rest = *args;
    const size_t taken = args->n_pos > n ? n : args->n_pos;
    if (taken > 0) { /* without arguments there is no array to move in */
        rest.n_pos -= taken;
        rest.pos += taken;
    }
    return rest;
}

/* ---- arguments ---- */

typedef struct gathered {
    sp_jval pos, names, values; /* lists */
} gathered;

static bool gather_mapping(sp_jinja *r, sp_jval dict, gathered *g) {
    if (dict.kind != J_DICT) {
        sp_jinja_error(r, SPAR_INVALID, "argument after ** must be a mapping, not %s",
                       sp_jinja_type_name(dict));
        return false;
    }
    for (size_t i = 0; i < dict.m->n; i++) {
        if (dict.m->keys[i].kind != J_STR) {
            sp_jinja_error(r, SPAR_INVALID, "keywords must be strings");
            return false;
        }
        sp_jinja_push(r, g->names, dict.m->keys[i]);
        sp_jinja_push(r, g->values, dict.m->values[i]);
    }
    return !r->failed;
}

static bool gather(sp_jinja *r, const sp_jnode *node, sp_jval v, gathered *g) {
    if (v.kind == J_FAIL) {
        return false;
    }
    if (node->kind == JN_KEYWORD) {
        return sp_jinja_push(r, g->names, node->value) && sp_jinja_push(r, g->values, v);
    }
    if (node->kind == JN_STAR2) {
        return gather_mapping(r, v, g);
    }
    if (node->kind != JN_STAR) {
        return sp_jinja_push(r, g->pos, v);
    }
    const sp_jval list = sp_jinja_iterate(r, v);
    for (size_t i = 0; list.kind != J_FAIL && i < list.l->n; i++) {
        sp_jinja_push(r, g->pos, list.l->items[i]);
    }
    return !r->failed;
}

bool sp_jinja_eval_args(sp_jinja *r, sp_jscope *scope, const sp_jnode *list, sp_jargs *args) {
    *args = (sp_jargs){0};
    if (list == NULL) {
        return true;
    }
    gathered g = {sp_jinja_list(r, J_LIST, 4), sp_jinja_list(r, J_LIST, 0),
                  sp_jinja_list(r, J_LIST, 0)};
    for (; list != NULL && !r->failed; list = list->next) {
        const bool plain =
            list->kind != JN_KEYWORD && list->kind != JN_STAR && list->kind != JN_STAR2;
        if (!gather(r, list, sp_jinja_eval(r, scope, plain ? list : list->a), &g)) {
            return false;
        }
    }
    if (r->failed) {
        return false;
    }
    *args = (sp_jargs){.pos = g.pos.l->items,
                       .n_pos = g.pos.l->n,
                       .names = g.names.l->items,
                       .values = g.values.l->items,
                       .n_named = g.names.l->n};
    return true;
}

/* ---- expressions ---- */

static sp_jval eval_constant(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    (void)r;
    (void)scope;
    return node->value;
}

static sp_jval eval_name(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    return sp_jinja_lookup(r, scope, node->value.s);
}

static sp_jval eval_attribute(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    return sp_jinja_attr(r, sp_jinja_eval(r, scope, node->a), node->value);
}

static sp_jval eval_slice(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval none = sp_jinja_none();
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    const sp_jval start = node->b == NULL ? none : sp_jinja_eval(r, scope, node->b);
    const sp_jval stop = node->c == NULL ? none : sp_jinja_eval(r, scope, node->c);
    const sp_jval step = node->d == NULL ? none : sp_jinja_eval(r, scope, node->d);
    return r->failed ? sp_jinja_failed() : sp_jinja_slice(r, v, start, stop, step);
}

static sp_jval eval_item(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    if (node->b->kind == JN_SLICE) {
        sp_jnode slice = *node->b;
        slice.a = node->a;
        return eval_slice(r, scope, &slice);
    }
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    const sp_jval key = sp_jinja_eval(r, scope, node->b);
    return r->failed ? sp_jinja_failed() : sp_jinja_item(r, v, key);
}

static sp_jval eval_call(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jargs args;
    const sp_jval callee = sp_jinja_eval(r, scope, node->a);
    if (callee.kind == J_FAIL || !sp_jinja_eval_args(r, scope, node->list, &args)) {
        return sp_jinja_failed();
    }
    r->line = node->line;
    return sp_jinja_call(r, callee, &args);
}

static sp_jval eval_filter(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jargs args;
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    if (v.kind == J_FAIL || !sp_jinja_eval_args(r, scope, node->list, &args)) {
        return sp_jinja_failed();
    }
    r->line = node->line;
    return sp_jinja_filter(r, node->value, v, &args);
}

static sp_jval eval_test(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jargs args;
    bool verdict = false;
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    if (v.kind == J_FAIL || !sp_jinja_eval_args(r, scope, node->list, &args) ||
        !sp_jinja_test(r, node->value, v, &args, &verdict)) {
        return sp_jinja_failed();
    }
    return sp_jinja_bool(verdict);
}

static sp_jval eval_and(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    return sp_jinja_truth(v) ? sp_jinja_eval(r, scope, node->b) : v;
}

static sp_jval eval_or(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    return sp_jinja_truth(v) || v.kind == J_FAIL ? v : sp_jinja_eval(r, scope, node->b);
}

static sp_jval eval_not(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    return v.kind == J_FAIL ? v : sp_jinja_bool(!sp_jinja_truth(v));
}

static bool compare(sp_jinja *r, const char *op, sp_jval a, sp_jval b, bool *holds) {
    int order = 0;
    *holds = false;
    if (strcmp(op, "==") == 0 || strcmp(op, "!=") == 0) {
        *holds = sp_jinja_equal(r, a, b) == (op[0] == '=');
        return !r->failed;
    }
    if (op[0] == 'i' || op[0] == 'n') {
        const bool good = sp_jinja_contains(r, b, a, holds);
        *holds = *holds == (op[0] == 'i');
        return good;
    }
    if (!sp_jinja_compare(r, a, b, op, &order)) {
        return false;
    }
    const bool equal = order == 0 && op[1] == '=';
    *holds = equal || (op[0] == '<' ? order < 0 : order > 0);
    return true;
}

static sp_jval eval_compare(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jval left = sp_jinja_eval(r, scope, node->a);
    bool holds = left.kind != J_FAIL;
    for (const sp_jnode *o = node->list; o != NULL && holds; o = o->next) {
        const sp_jval right = sp_jinja_eval(r, scope, o->a);
        if (right.kind == J_FAIL || !compare(r, o->op, left, right, &holds)) {
            return sp_jinja_failed();
        }
        left = right;
    }
    return r->failed ? sp_jinja_failed() : sp_jinja_bool(holds);
}

static sp_jval eval_binary(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval a = sp_jinja_eval(r, scope, node->a);
    const sp_jval b = sp_jinja_eval(r, scope, node->b);
    return r->failed ? sp_jinja_failed() : sp_jinja_binary(r, node->op, a, b);
}

static sp_jval eval_unary(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    const bool negative = node->op[0] == '-';
    int64_t i = 0;
    if (v.kind == J_FAIL) {
        return v;
    }
    if (v.kind == J_FLOAT) {
        return sp_jinja_float(negative ? -v.d : v.d);
    }
    if (!sp_jinja_as_int(v, &i)) {
        return v.kind == J_UNDEF
                   ? sp_jinja_fail(r, SPAR_INVALID, "%s", v.undef)
                   : sp_jinja_fail(r, SPAR_INVALID, "bad operand type for unary %s: '%s'", node->op,
                                   sp_jinja_type_name(v));
    }
    return negative ? sp_jinja_binary(r, "-", sp_jinja_int(0), v) : sp_jinja_int(i);
}

/* As a capture that writes one after the other. */
static sp_jval eval_concat(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jcapture c;
    bool good = true;
    sp_jinja_capture_begin(r, &c);
    for (const sp_jnode *item = node->list; item != NULL && good; item = item->next) {
        const sp_jval v = sp_jinja_eval(r, scope, item);
        good = v.kind != J_FAIL && (v.kind != J_STR || sp_jinja_mark_written(r, v.s->s, v.s->n)) &&
               sp_jinja_put_str(r, &c.text, v);
    }
    return sp_jinja_capture_end(r, &c, good);
}

static sp_jval eval_condition(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval v = sp_jinja_eval(r, scope, node->b);
    if (v.kind == J_FAIL) {
        return v;
    }
    if (sp_jinja_truth(v)) {
        return sp_jinja_eval(r, scope, node->a);
    }
    return node->c != NULL
               ? sp_jinja_eval(r, scope, node->c)
               : sp_jinja_undefined(r,
                                    "the inline if-expression on line %d evaluated to false and "
                                    "no else section was defined",
                                    node->line);
}

static sp_jval eval_items(sp_jinja *r, sp_jscope *scope, const sp_jnode *node, sp_jkind kind) {
    sp_jval list = sp_jinja_list(r, kind, 4);
    for (const sp_jnode *item = node->list; item != NULL && !r->failed; item = item->next) {
        sp_jinja_push(r, list, sp_jinja_eval(r, scope, item));
    }
    return r->failed ? sp_jinja_failed() : list;
}

static sp_jval eval_list(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    return eval_items(r, scope, node, J_LIST);
}

static sp_jval eval_tuple(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    return eval_items(r, scope, node, J_TUPLE);
}

static sp_jval eval_dict(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jval dict = sp_jinja_dict(r, J_DICT);
    for (const sp_jnode *pair = node->list; pair != NULL && !r->failed; pair = pair->next) {
        const sp_jval key = sp_jinja_eval(r, scope, pair->a);
        sp_jinja_put(r, dict, key, sp_jinja_eval(r, scope, pair->b));
    }
    return r->failed ? sp_jinja_failed() : dict;
}

sp_jval sp_jinja_eval(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    static sp_jval (*const evaluators[JN_STATEMENT])(sp_jinja *, sp_jscope *, const sp_jnode *) = {
#define X(name, function) [JN_##name] = eval_##function,
        SP_JINJA_EXPRESSIONS(X)
#undef X
    };
    if (node->kind == JN_HOLE) {
        return r->hole;
    }
    if (!sp_jinja_enter(r)) {
        return sp_jinja_failed();
    }
    const sp_jval v = evaluators[node->kind](r, scope, node);
    sp_jinja_leave(r);
    return r->failed ? sp_jinja_failed() : v;
}
