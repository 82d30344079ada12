/* Statements: what a template writes. */
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_marks.h"

bool sp_jinja_emit(sp_jinja *r, const char *s, size_t n) {
    if (n > SP_JINJA_OUTPUT - r->output) {
        sp_jinja_error(r, SPAR_LIMIT, "the template writes more than %d MiB",
                       SP_JINJA_OUTPUT >> 20);
        return false;
    }
    r->output += n;
    if (!sp_jinja_mark_written(r, s, n)) {
        return false;
    }
    sp_str_append(r->out, s, n);
    return !r->failed;
}

static bool emit_value(sp_jinja *r, sp_jval v) {
    const sp_jval text = v.kind == J_UNDEF ? v : sp_jinja_str(r, v);
    return text.kind == J_UNDEF || (text.kind == J_STR && sp_jinja_emit(r, text.s->s, text.s->n));
}

sp_jval sp_jinja_capture(sp_jinja *r, sp_jscope *scope, const sp_jnode *body, sp_jflow *flow) {
    sp_jcapture c;
    sp_jinja_capture_begin(r, &c);
    *flow = sp_jinja_exec(r, scope, body);
    return sp_jinja_capture_end(r, &c, *flow == JF_NEXT);
}

/* ---- assignment ---- */

static bool set_target(sp_jinja *r, sp_jscope *scope, const sp_jnode *target, sp_jval v);

static bool unpack(sp_jinja *r, sp_jscope *scope, const sp_jnode *target, sp_jval v) {
    const sp_jval list = sp_jinja_iterate(r, v);
    size_t wanted = 0;
    for (const sp_jnode *item = target->list; item != NULL; item = item->next) {
        wanted++;
    }
    if (list.kind == J_FAIL) {
        return false;
    }
    if (list.l->n != wanted) {
        sp_jinja_error(r, SPAR_INVALID, "expected %zu values to unpack, got %zu", wanted,
                       list.l->n);
        return false;
    }
    size_t i = 0;
    for (const sp_jnode *item = target->list; item != NULL; item = item->next) {
        if (!set_target(r, scope, item, list.l->items[i++])) {
            return false;
        }
    }
    return true;
}

static bool set_target(sp_jinja *r, sp_jscope *scope, const sp_jnode *target, sp_jval v) {
    if (v.kind == J_FAIL) {
        return false;
    }
    if (target->kind == JN_NAME) {
        return sp_jinja_assign(r, scope, target->value.s, v);
    }
    if (target->kind == JN_TUPLE) {
        return unpack(r, scope, target, v);
    }
    const sp_jval ns = sp_jinja_lookup(r, scope, target->value.s);
    if (ns.kind != J_NAMESPACE) {
        sp_jinja_error(r, SPAR_INVALID, "cannot assign attribute on non-namespace object");
        return false;
    }
    return sp_jinja_put(r, ns, target->b->value, v);
}

/* ---- macros ---- */

static bool bind_param(sp_jinja *r, sp_jscope *scope, const sp_jnode *param, const sp_jargs *args,
                       size_t i, size_t *used) {
    sp_jval v = i < args->n_pos ? args->pos[i] : (sp_jval){.kind = J_ABSENT};
    for (size_t k = 0; k < args->n_named; k++) {
        if (!sp_jinja_same_text(args->names[k].s, param->value.s)) {
            continue;
        }
        if (v.kind != J_ABSENT) {
            sp_jinja_error(r, SPAR_INVALID, "got multiple values for argument '%.*s'",
                           (int)param->value.s->n, param->value.s->s);
            return false;
        }
        v = args->values[k];
        ++*used;
    }
    return sp_jinja_assign(r, scope, param->value.s, v);
}

/* A default sees all that was given, and what stands before it; the rest is undefined. */
static bool bind_default(sp_jinja *r, sp_jscope *scope, const sp_jnode *param) {
    const sp_jstr *name = param->value.s;
    const sp_jvar *var = scope->vars;
    while (var->name != name && !sp_jinja_same_text(var->name, name)) {
        var = var->next;
    }
    if (var->value.kind != J_ABSENT) {
        return true;
    }
    const sp_jval v = param->a != NULL ? sp_jinja_eval(r, scope, param->a)
                                       : sp_jinja_undefined(r, "parameter '%.*s' was not provided",
                                                            (int)(name->n & 0xff), name->s);
    return sp_jinja_assign(r, scope, name, v);
}

static bool is_param(const sp_jnode *macro, sp_jval name) {
    for (const sp_jnode *param = macro->list; param != NULL; param = param->next) {
        if (sp_jinja_same_text(param->value.s, name.s)) {
            return true;
        }
    }
    return false;
}

/* caller, varargs and kwargs, for a macro whose body names them. */
static bool bind_extras(sp_jinja *r, sp_jscope *scope, const sp_jnode *macro, const sp_jargs *args,
                        size_t n_params, size_t used) {
    sp_jval caller = {.kind = J_ABSENT};
    sp_jval kwargs = sp_jinja_dict(r, J_DICT);
    sp_jval varargs = sp_jinja_list(r, J_TUPLE, 0);
    for (size_t i = 0; i < args->n_named && !r->failed; i++) {
        if (is_param(macro, args->names[i])) {
            continue;
        }
        if (macro->uses_caller && sp_jinja_is(args->names[i], "caller")) {
            caller = args->values[i];
            used++;
        } else if (macro->uses_kwargs) {
            sp_jinja_put(r, kwargs, args->names[i], args->values[i]);
            used++;
        }
    }
    for (size_t i = n_params; i < args->n_pos && macro->uses_varargs; i++) {
        sp_jinja_push(r, varargs, args->pos[i]);
    }
    if (used < args->n_named || (args->n_pos > n_params && !macro->uses_varargs)) {
        sp_jinja_error(r, SPAR_INVALID, "macro '%.*s' takes %zu arguments, or got an unknown one",
                       (int)macro->value.s->n, macro->value.s->s, n_params);
    }
    if (macro->uses_caller && caller.kind == J_ABSENT && !r->failed) {
        caller = sp_jinja_undefined(r, "no caller defined");
    }
    return !r->failed && (!macro->uses_caller || sp_jinja_define(r, scope, "caller", caller)) &&
           (!macro->uses_kwargs || sp_jinja_define(r, scope, "kwargs", kwargs)) &&
           (!macro->uses_varargs || sp_jinja_define(r, scope, "varargs", varargs));
}

sp_jval sp_jinja_call_macro(sp_jinja *r, const sp_jcallable *c, const sp_jargs *args) {
    const sp_jnode *macro = c->macro;
    sp_jscope *scope = sp_jinja_scope(r, c->scope);
    size_t n_params = 0;
    size_t used = 0;
    if (scope == NULL) {
        return sp_jinja_failed();
    }
    for (const sp_jnode *param = macro->list; param != NULL; param = param->next) {
        if (!bind_param(r, scope, param, args, n_params++, &used)) {
            return sp_jinja_failed();
        }
    }
    for (const sp_jnode *param = macro->list; param != NULL; param = param->next) {
        if (!bind_default(r, scope, param)) {
            return sp_jinja_failed();
        }
    }
    /* the caller of a call block is seen from its body through the scope around it */
    sp_jnode plain = *macro;
    plain.uses_caller = macro->uses_caller && macro->kind == JN_MACRO;
    if (!bind_extras(r, scope, &plain, args, n_params, used)) {
        return sp_jinja_failed();
    }
    sp_jflow flow = JF_NEXT; /* no break leaves a macro: the parser sees to it */
    return sp_jinja_capture(r, scope, macro->body, &flow);
}

/* ---- loops ---- */

/* The items that pass the loop's own filter. */
static sp_jval filter_items(sp_jinja *r, sp_jscope *scope, const sp_jnode *node, sp_jval items) {
    if (node->c == NULL || items.kind == J_FAIL) {
        return items;
    }
    sp_jval kept = sp_jinja_list(r, J_LIST, 0);
    for (size_t i = 0; i < items.l->n && !r->failed; i++) {
        sp_jscope *inner = sp_jinja_scope(r, scope);
        if (inner == NULL || !set_target(r, inner, node->a, items.l->items[i])) {
            break;
        }
        if (sp_jinja_truth(sp_jinja_eval(r, inner, node->c))) {
            sp_jinja_push(r, kept, items.l->items[i]);
        }
    }
    return r->failed ? sp_jinja_failed() : kept;
}

static sp_jflow run_items(sp_jinja *r, sp_jloop *loop) {
    const sp_jnode *node = loop->node;
    for (; loop->index < loop->items->n; loop->index++) {
        sp_jscope *scope = sp_jinja_scope(r, loop->scope);
        if (scope == NULL || !sp_jinja_step(r, 1) ||
            !sp_jinja_define(r, scope, "loop", (sp_jval){.kind = J_LOOP, .loop = loop}) ||
            !set_target(r, scope, node->a, loop->items->items[loop->index])) {
            return JF_FAIL;
        }
        const sp_jflow flow = sp_jinja_exec(r, scope, node->body);
        if (flow == JF_FAIL || flow == JF_BREAK) {
            return flow == JF_FAIL ? JF_FAIL : JF_NEXT;
        }
    }
    return JF_NEXT;
}

static sp_jflow run_loop(sp_jinja *r, sp_jscope *scope, const sp_jnode *node, sp_jval over,
                         int depth) {
    const sp_jval items = filter_items(r, scope, node, sp_jinja_iterate(r, over));
    if (items.kind == J_FAIL) {
        return JF_FAIL;
    }
    if (items.l->n == 0) {
        sp_jscope *inner = sp_jinja_scope(r, scope);
        return inner == NULL ? JF_FAIL : sp_jinja_exec(r, inner, node->orelse);
    }
    sp_jloop *loop = sp_jinja_alloc(r, sizeof *loop);
    if (loop == NULL) {
        return JF_FAIL;
    }
    *loop = (sp_jloop){.items = items.l,
                       .depth = depth,
                       .node = node,
                       .scope = scope,
                       .changed = {.kind = J_ABSENT}};
    return run_items(r, loop);
}

sp_jval sp_jinja_call_loop(sp_jinja *r, const sp_jloop *loop, const sp_jargs *args) {
    if (!loop->node->recursive || args->n_pos != 1 || args->n_named > 0) {
        return sp_jinja_fail(r, SPAR_INVALID,
                             "the loop is not recursive, or is not called with "
                             "one thing to walk");
    }
    sp_jcapture c;
    sp_jinja_capture_begin(r, &c);
    const sp_jflow flow = run_loop(r, loop->scope, loop->node, args->pos[0], loop->depth + 1);
    return sp_jinja_capture_end(r, &c, flow == JF_NEXT);
}

/* ---- statements ---- */

static sp_jflow flow_of(bool good) {
    return good ? JF_NEXT : JF_FAIL;
}

static sp_jflow exec_data(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    (void)scope;
    return flow_of(sp_jinja_emit(r, node->value.s->s, node->value.s->n));
}

static sp_jflow exec_print(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval v = sp_jinja_eval(r, scope, node->a);
    return flow_of(v.kind != J_FAIL && emit_value(r, v));
}

static sp_jflow exec_if(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    for (const sp_jnode *branch = node->list; branch != NULL; branch = branch->next) {
        const sp_jval v =
            branch->a == NULL ? sp_jinja_bool(true) : sp_jinja_eval(r, scope, branch->a);
        if (v.kind == J_FAIL) {
            return JF_FAIL;
        }
        if (sp_jinja_truth(v)) {
            return sp_jinja_exec(r, scope, branch->body);
        }
    }
    return JF_NEXT;
}

static sp_jflow exec_for(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval over = sp_jinja_eval(r, scope, node->b);
    return over.kind == J_FAIL ? JF_FAIL : run_loop(r, scope, node, over, 1);
}

static sp_jflow exec_set(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    return flow_of(set_target(r, scope, node->a, sp_jinja_eval(r, scope, node->b)));
}

/* What the body writes, in a scope of its own, passed through the filter over the hole. */
static sp_jval capture_filtered(sp_jinja *r, sp_jscope *scope, const sp_jnode *node,
                                sp_jflow *flow) {
    sp_jscope *inner = sp_jinja_scope(r, scope);
    sp_jval text = sp_jinja_failed();
    *flow = JF_FAIL;
    if (inner != NULL) {
        text = sp_jinja_capture(r, inner, node->body, flow);
    }
    if (text.kind != J_FAIL && node->b != NULL) {
        const sp_jval outer = r->hole;
        r->hole = text;
        text = sp_jinja_eval(r, inner, node->b);
        r->hole = outer;
    }
    return text;
}

static sp_jflow exec_set_block(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jflow flow = JF_NEXT;
    const sp_jval v = capture_filtered(r, scope, node, &flow);
    return flow != JF_NEXT ? flow : flow_of(set_target(r, scope, node->a, v));
}

static sp_jflow exec_filter_block(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jflow flow = JF_NEXT;
    const sp_jval v = capture_filtered(r, scope, node, &flow);
    if (v.kind != J_STR && flow == JF_NEXT && !r->failed) {
        sp_jinja_error(r, SPAR_INVALID, "a filter block must give a string, not '%s'",
                       sp_jinja_type_name(v));
    }
    return flow != JF_NEXT ? flow : flow_of(v.kind == J_STR && emit_value(r, v));
}

static sp_jflow exec_macro(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    const sp_jval macro = sp_jinja_callable(r, (sp_jcallable){.macro = node, .scope = scope});
    return flow_of(sp_jinja_assign(r, scope, node->value.s, macro));
}

static sp_jflow exec_call_block(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jargs args;
    const sp_jval callee = sp_jinja_eval(r, scope, node->a->a);
    const sp_jval caller = sp_jinja_callable(r, (sp_jcallable){.macro = node, .scope = scope});
    if (r->failed || !sp_jinja_eval_args(r, scope, node->a->list, &args)) {
        return JF_FAIL;
    }
    sp_jval names = sp_jinja_list(r, J_LIST, args.n_named + 1);
    sp_jval values = sp_jinja_list(r, J_LIST, args.n_named + 1);
    for (size_t i = 0; i < args.n_named && !r->failed; i++) {
        sp_jinja_push(r, names, args.names[i]);
        sp_jinja_push(r, values, args.values[i]);
    }
    if (r->failed || !sp_jinja_push(r, names, node->value) || !sp_jinja_push(r, values, caller)) {
        return JF_FAIL;
    }
    args.names = names.l->items;
    args.values = values.l->items;
    args.n_named++;
    const sp_jval v = sp_jinja_call(r, callee, &args);
    return flow_of(v.kind != J_FAIL && emit_value(r, v));
}

static sp_jflow exec_with(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jscope *inner = sp_jinja_scope(r, scope);
    if (inner == NULL) {
        return JF_FAIL;
    }
    for (const sp_jnode *set = node->list; set != NULL; set = set->next) {
        if (!set_target(r, inner, set->a, sp_jinja_eval(r, scope, set->b))) {
            return JF_FAIL;
        }
    }
    return sp_jinja_exec(r, inner, node->body);
}

static sp_jflow exec_scope(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    sp_jscope *inner = sp_jinja_scope(r, scope);
    return inner == NULL ? JF_FAIL : sp_jinja_exec(r, inner, node->body);
}

static sp_jflow exec_generation(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    size_t begin;
    const bool noted = sp_jinja_mark_begin(r, &begin);
    const sp_jflow flow = exec_scope(r, scope, node);
    return flow == JF_FAIL || !noted || sp_jinja_mark_end(r, begin) ? flow : JF_FAIL;
}

/* The first statement of its scope; none of the names is a parameter. */
static sp_jflow exec_declare(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    for (const sp_jnode *name = node->list; name != NULL; name = name->next) {
        if (!sp_jinja_assign(r, scope, name->value.s, (sp_jval){.kind = J_ABSENT})) {
            return JF_FAIL;
        }
    }
    return JF_NEXT;
}

static sp_jflow exec_break(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    (void)r;
    (void)scope;
    (void)node;
    return JF_BREAK;
}

static sp_jflow exec_continue(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    (void)r;
    (void)scope;
    (void)node;
    return JF_CONTINUE;
}

static sp_jflow exec_one(sp_jinja *r, sp_jscope *scope, const sp_jnode *node) {
    static sp_jflow (*const executors[JN_COUNT])(sp_jinja *, sp_jscope *, const sp_jnode *) = {
#define X(name, function) [JN_##name] = exec_##function,
        SP_JINJA_STATEMENTS(X)
#undef X
    };
    r->line = node->line;
    return executors[node->kind](r, scope, node);
}

sp_jflow sp_jinja_exec(sp_jinja *r, sp_jscope *scope, const sp_jnode *body) {
    sp_jflow flow = JF_NEXT;
    if (!sp_jinja_enter(r)) {
        return JF_FAIL;
    }
    for (; body != NULL && flow == JF_NEXT && sp_jinja_step(r, 1); body = body->next) {
        flow = exec_one(r, scope, body);
    }
    sp_jinja_leave(r);
    return r->failed ? JF_FAIL : flow;
}
