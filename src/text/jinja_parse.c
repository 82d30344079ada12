/* Expressions of the template language, by recursive descent in Jinja2's order of precedence. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_syntax.h"

sp_jnode *sp_jinja_node(sp_jparser *p, sp_jnode_kind kind) {
    sp_jnode *node = sp_jinja_alloc(p->r, sizeof *node);
    if (node != NULL) {
        node->kind = kind;
        node->line = p->at->line;
    }
    return node;
}

sp_jnode *sp_jinja_syntax(sp_jparser *p, const char *fmt, ...) {
    char message[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    p->r->line = p->at->line;
    sp_jinja_error(p->r, SPAR_FORMAT, "%s", message);
    return NULL;
}

static const char *describe(const sp_jtoken *t, char text[64]) {
    switch (t->kind) {
    case JT_NAME:
        snprintf(text, 64, "%.*s", (int)(t->n < 60 ? t->n : 60), t->text);
        return text;
    case JT_OPERATOR:
        return t->text;
    case JT_END:
        return "end of template";
    case JT_BLOCK_END:
        return "end of statement block";
    case JT_VARIABLE_END:
        return "end of print statement";
    case JT_INT:
    case JT_FLOAT:
        return "a number";
    case JT_STRING:
        return "a string";
    default:
        return "template data";
    }
}

sp_jnode *sp_jinja_unexpected(sp_jparser *p) {
    char text[64];
    return sp_jinja_syntax(p, "unexpected '%s'", describe(p->at, text));
}

static bool is_name(const sp_jtoken *t, const char *name) {
    return t->kind == JT_NAME && t->n == strlen(name) && memcmp(t->text, name, t->n) == 0;
}

bool sp_jinja_at_name(const sp_jparser *p, const char *name) {
    return is_name(p->at, name);
}

bool sp_jinja_at_op(const sp_jparser *p, const char *op) {
    return p->at->kind == JT_OPERATOR && strcmp(p->at->text, op) == 0;
}

bool sp_jinja_skip_name(sp_jparser *p, const char *name) {
    const bool there = sp_jinja_at_name(p, name);
    p->at += there;
    return there;
}

bool sp_jinja_skip_op(sp_jparser *p, const char *op) {
    const bool there = sp_jinja_at_op(p, op);
    p->at += there;
    return there;
}

static bool expected(sp_jparser *p, const char *what) {
    char text[64];
    sp_jinja_syntax(p, "expected %s, got '%s'", what, describe(p->at, text));
    return false;
}

bool sp_jinja_expect_op(sp_jparser *p, const char *op) {
    return sp_jinja_skip_op(p, op) || expected(p, op);
}

bool sp_jinja_expect_kind(sp_jparser *p, sp_jtoken_kind kind, const char *what) {
    if (p->at->kind != kind) {
        return expected(p, what);
    }
    p->at++;
    return true;
}

sp_jval sp_jinja_expect_name(sp_jparser *p) {
    const sp_jtoken *t = p->at;
    if (!sp_jinja_expect_kind(p, JT_NAME, "a name")) {
        return sp_jinja_failed();
    }
    return sp_jinja_borrow(p->r, t->text, t->n, false);
}

bool sp_jinja_deeper(sp_jparser *p) {
    if (p->depth >= SP_JINJA_PARSE_DEPTH) {
        p->r->line = p->at->line;
        sp_jinja_error(p->r, SPAR_LIMIT, "the source nests deeper than %d levels",
                       SP_JINJA_PARSE_DEPTH);
        return false;
    }
    p->depth++;
    return true;
}

/* A node with operands a and b, NULL when one of them failed. */
static sp_jnode *join(sp_jparser *p, sp_jnode_kind kind, const char *op, sp_jnode *a, sp_jnode *b) {
    sp_jnode *node = a == NULL || b == NULL ? NULL : sp_jinja_node(p, kind);
    if (node != NULL) {
        node->op = op;
        node->a = a;
        node->b = b == a ? NULL : b; /* one operand, given twice */
        node->line = a->line;
    }
    return node;
}

/* ---- operators ---- */

static sp_jnode *parse_pow(sp_jparser *p) {
    sp_jnode *left = sp_jinja_parse_unary(p, true);
    while (left != NULL && sp_jinja_skip_op(p, "**")) {
        left = join(p, JN_BINARY, "**", left, sp_jinja_parse_unary(p, true));
    }
    return left;
}

static const char *skip_one_of(sp_jparser *p, const char *const *ops) {
    for (; *ops != NULL; ops++) {
        if (sp_jinja_skip_op(p, *ops)) {
            return *ops;
        }
    }
    return NULL;
}

static sp_jnode *parse_product(sp_jparser *p) {
    static const char *const ops[] = {"*", "/", "//", "%", NULL};
    sp_jnode *left = parse_pow(p);
    const char *op = NULL;
    while (left != NULL && (op = skip_one_of(p, ops)) != NULL) {
        left = join(p, JN_BINARY, op, left, parse_pow(p));
    }
    return left;
}

static sp_jnode *parse_concat(sp_jparser *p) {
    sp_jnode *first = parse_product(p);
    if (first == NULL || !sp_jinja_at_op(p, "~")) {
        return first;
    }
    sp_jnode *node = sp_jinja_node(p, JN_CONCAT);
    sp_jnode *last = first;
    while (node != NULL && last != NULL && sp_jinja_skip_op(p, "~")) {
        last->next = parse_product(p);
        last = last->next;
    }
    if (node == NULL || last == NULL) {
        return NULL;
    }
    node->list = first;
    return node;
}

static sp_jnode *parse_sum(sp_jparser *p) {
    static const char *const ops[] = {"+", "-", NULL};
    sp_jnode *left = parse_concat(p);
    const char *op = NULL;
    while (left != NULL && (op = skip_one_of(p, ops)) != NULL) {
        left = join(p, JN_BINARY, op, left, parse_concat(p));
    }
    return left;
}

static const char *skip_comparison(sp_jparser *p) {
    static const char *const ops[] = {"==", "!=", "<=", ">=", "<", ">", NULL};
    if (sp_jinja_skip_name(p, "in")) {
        return "in";
    }
    if (sp_jinja_at_name(p, "not") && is_name(p->at + 1, "in")) {
        p->at += 2;
        return "not in";
    }
    return skip_one_of(p, ops);
}

static sp_jnode *parse_compare(sp_jparser *p) {
    sp_jnode *first = parse_sum(p);
    sp_jnode *node = NULL;
    sp_jnode **tail = NULL;
    const char *op = NULL;
    while (first != NULL && (op = skip_comparison(p)) != NULL) {
        if (node == NULL) {
            node = join(p, JN_COMPARE, NULL, first, first);
            tail = node == NULL ? NULL : &node->list;
        }
        sp_jnode *right = parse_sum(p);
        sp_jnode *operand = join(p, JN_OPERAND, op, right, right);
        if (node == NULL || operand == NULL) {
            return NULL;
        }
        *tail = operand;
        tail = &operand->next;
    }
    return node == NULL ? first : node;
}

static sp_jnode *parse_not(sp_jparser *p) {
    if (!sp_jinja_at_name(p, "not")) {
        return parse_compare(p);
    }
    if (!sp_jinja_deeper(p)) {
        return NULL;
    }
    p->at++;
    sp_jnode *operand = parse_not(p);
    p->depth--;
    return join(p, JN_NOT, NULL, operand, operand);
}

static sp_jnode *parse_and(sp_jparser *p) {
    sp_jnode *left = parse_not(p);
    while (left != NULL && sp_jinja_skip_name(p, "and")) {
        left = join(p, JN_AND, NULL, left, parse_not(p));
    }
    return left;
}

static sp_jnode *parse_or(sp_jparser *p) {
    sp_jnode *left = parse_and(p);
    while (left != NULL && sp_jinja_skip_name(p, "or")) {
        left = join(p, JN_OR, NULL, left, parse_and(p));
    }
    return left;
}

static sp_jnode *parse_condition(sp_jparser *p) {
    sp_jnode *value = parse_or(p);
    while (value != NULL && sp_jinja_skip_name(p, "if")) {
        value = join(p, JN_CONDITION, NULL, value, parse_or(p));
        if (value != NULL && sp_jinja_skip_name(p, "else")) {
            value->c = sp_jinja_parse_expression(p, true);
            value = value->c == NULL ? NULL : value;
        }
    }
    return value;
}

sp_jnode *sp_jinja_parse_expression(sp_jparser *p, bool condition) {
    if (!sp_jinja_deeper(p)) {
        return NULL;
    }
    sp_jnode *node = condition ? parse_condition(p) : parse_or(p);
    p->depth--;
    return node;
}

/* ---- literals ---- */

static bool tuple_ends(const sp_jparser *p, const char *end) {
    return p->at->kind == JT_VARIABLE_END || p->at->kind == JT_BLOCK_END ||
           sp_jinja_at_op(p, ")") || (end != NULL && sp_jinja_at_name(p, end));
}

static sp_jnode *parse_target_item(sp_jparser *p, bool namespaces) {
    sp_jnode *node = sp_jinja_parse_primary(p);
    if (node == NULL || node->kind != JN_NAME || !namespaces || !sp_jinja_skip_op(p, ".")) {
        return node;
    }
    sp_jnode *attribute = sp_jinja_node(p, JN_CONST);
    if (attribute == NULL) {
        return NULL;
    }
    attribute->value = sp_jinja_expect_name(p);
    node->kind = JN_NSREF;
    node->b = attribute;
    return attribute->value.kind == J_STR ? node : NULL;
}

typedef enum tuple_of { OF_EXPRESSIONS, OF_PLAIN, OF_TARGETS, OF_NAMESPACE_TARGETS } tuple_of;

static sp_jnode *parse_tuple(sp_jparser *p, tuple_of of, const char *end, bool parentheses) {
    sp_jnode *node = sp_jinja_node(p, JN_TUPLE);
    sp_jnode **tail = node == NULL ? NULL : &node->list;
    bool tuple = false;
    while (node != NULL && !tuple_ends(p, end)) {
        sp_jnode *item = of == OF_EXPRESSIONS || of == OF_PLAIN
                             ? sp_jinja_parse_expression(p, of == OF_EXPRESSIONS)
                             : parse_target_item(p, of == OF_NAMESPACE_TARGETS);
        if (item == NULL) {
            return NULL;
        }
        *tail = item;
        tail = &item->next;
        if (!sp_jinja_skip_op(p, ",")) {
            break;
        }
        tuple = true;
    }
    if (node == NULL || tuple) {
        return node;
    }
    if (node->list == NULL && !parentheses) {
        return sp_jinja_unexpected(p);
    }
    return node->list == NULL ? node : node->list;
}

sp_jnode *sp_jinja_parse_tuple(sp_jparser *p, bool condition, const char *end, bool parentheses) {
    return parse_tuple(p, condition ? OF_EXPRESSIONS : OF_PLAIN, end, parentheses);
}

static bool is_target(const sp_jnode *node) {
    if (node->kind == JN_TUPLE) {
        for (const sp_jnode *item = node->list; item != NULL; item = item->next) {
            if (!is_target(item)) {
                return false;
            }
        }
        return true;
    }
    return node->kind == JN_NAME || node->kind == JN_NSREF;
}

sp_jnode *sp_jinja_parse_target(sp_jparser *p, const char *end, bool namespaces) {
    sp_jnode *node = parse_tuple(p, namespaces ? OF_NAMESPACE_TARGETS : OF_TARGETS, end, false);
    if (node != NULL && !is_target(node)) {
        return sp_jinja_syntax(p, "cannot assign to this expression");
    }
    return node;
}

static sp_jnode *parse_list(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_LIST);
    sp_jnode **tail = node == NULL ? NULL : &node->list;
    p->at++;
    while (node != NULL && !sp_jinja_at_op(p, "]")) {
        sp_jnode *item = sp_jinja_parse_expression(p, true);
        if (item == NULL) {
            return NULL;
        }
        *tail = item;
        tail = &item->next;
        if (!sp_jinja_skip_op(p, ",")) {
            break;
        }
    }
    return node != NULL && sp_jinja_expect_op(p, "]") ? node : NULL;
}

static sp_jnode *parse_dict(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_DICT);
    sp_jnode **tail = node == NULL ? NULL : &node->list;
    p->at++;
    while (node != NULL && !sp_jinja_at_op(p, "}")) {
        sp_jnode *key = sp_jinja_parse_expression(p, true);
        if (key == NULL || !sp_jinja_expect_op(p, ":")) {
            return NULL;
        }
        sp_jnode *pair = join(p, JN_PAIR, NULL, key, sp_jinja_parse_expression(p, true));
        if (pair == NULL) {
            return NULL;
        }
        *tail = pair;
        tail = &pair->next;
        if (!sp_jinja_skip_op(p, ",")) {
            break;
        }
    }
    return node != NULL && sp_jinja_expect_op(p, "}") ? node : NULL;
}

/* A name of a macro's body may make it take caller, varargs or kwargs. */
static void note_name(sp_jparser *p, const sp_jtoken *name) {
    for (sp_jnode *macro = p->macro; macro != NULL; macro = macro->d) {
        macro->uses_caller = macro->uses_caller || is_name(name, "caller");
        macro->uses_varargs = macro->uses_varargs || is_name(name, "varargs");
        macro->uses_kwargs = macro->uses_kwargs || is_name(name, "kwargs");
    }
}

static sp_jnode *parse_name(sp_jparser *p) {
    const bool truth = sp_jinja_at_name(p, "true") || sp_jinja_at_name(p, "True");
    const bool constant = truth || sp_jinja_at_name(p, "false") || sp_jinja_at_name(p, "False");
    const bool none = sp_jinja_at_name(p, "none") || sp_jinja_at_name(p, "None");
    sp_jnode *node = sp_jinja_node(p, constant || none ? JN_CONST : JN_NAME);
    if (node == NULL) {
        return NULL;
    }
    note_name(p, p->at);
    if (node->kind == JN_CONST) {
        node->value = none ? sp_jinja_none() : sp_jinja_bool(truth);
        p->at++;
    } else {
        node->value = sp_jinja_expect_name(p);
    }
    return node;
}

static sp_jnode *parse_strings(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_CONST);
    if (node == NULL) {
        return NULL;
    }
    node->value = p->at->value;
    if (p->at[1].kind == JT_STRING) {
        sp_str text = SP_STR_INIT;
        for (; p->at->kind == JT_STRING; p->at++) {
            sp_str_append(&text, p->at->value.s->s, p->at->value.s->n);
        }
        node->value = sp_jinja_take(p->r, &text, false);
    } else {
        p->at++;
    }
    return node->value.kind == J_FAIL ? NULL : node;
}

sp_jnode *sp_jinja_parse_primary(sp_jparser *p) {
    sp_jnode *node = NULL;
    if (p->at->kind == JT_NAME) {
        return parse_name(p);
    }
    if (p->at->kind == JT_STRING) {
        return parse_strings(p);
    }
    if (p->at->kind == JT_INT || p->at->kind == JT_FLOAT) {
        node = sp_jinja_node(p, JN_CONST);
        if (node != NULL) {
            node->value = p->at++->value;
        }
        return node;
    }
    if (sp_jinja_at_op(p, "[")) {
        return parse_list(p);
    }
    if (sp_jinja_at_op(p, "{")) {
        return parse_dict(p);
    }
    if (!sp_jinja_skip_op(p, "(")) {
        return sp_jinja_unexpected(p);
    }
    node = parse_tuple(p, OF_EXPRESSIONS, NULL, true);
    if (node == NULL || !sp_jinja_expect_op(p, ")")) {
        return NULL;
    }
    return node;
}

/* ---- what follows a primary ---- */

static sp_jnode *parse_argument(sp_jparser *p) {
    const sp_jtoken *t = p->at;
    sp_jnode *node = NULL;
    if (sp_jinja_at_op(p, "*") || sp_jinja_at_op(p, "**")) {
        node = sp_jinja_node(p, sp_jinja_at_op(p, "*") ? JN_STAR : JN_STAR2);
        p->at++;
    } else if (t->kind == JT_NAME && t[1].kind == JT_OPERATOR && strcmp(t[1].text, "=") == 0) {
        node = sp_jinja_node(p, JN_KEYWORD);
        const sp_jval name = sp_jinja_expect_name(p);
        p->at++;
        if (node != NULL) {
            node->value = name;
        }
    } else {
        return sp_jinja_parse_expression(p, true);
    }
    if (node != NULL) {
        node->a = sp_jinja_parse_expression(p, true);
    }
    return node == NULL || node->a == NULL ? NULL : node;
}

/* Positional arguments come first, then keywords and *, then **. */
static int argument_rank(const sp_jnode *argument) {
    return argument->kind == JN_STAR2     ? 2
           : argument->kind == JN_STAR    ? 1
           : argument->kind == JN_KEYWORD ? 1
                                          : 0;
}

/* (list) at the current token into node->list; NULL on failure. */
static sp_jnode *parse_arguments(sp_jparser *p, sp_jnode *node) {
    sp_jnode **tail = node == NULL ? NULL : &node->list;
    int rank = 0;
    p->at++;
    while (node != NULL && !sp_jinja_at_op(p, ")")) {
        sp_jnode *argument = parse_argument(p);
        if (argument == NULL) {
            return NULL;
        }
        if (argument_rank(argument) < rank || rank == 2) {
            return sp_jinja_syntax(p, "invalid syntax for function call expression");
        }
        rank = argument_rank(argument);
        *tail = argument;
        tail = &argument->next;
        if (!sp_jinja_skip_op(p, ",")) {
            break;
        }
    }
    return node != NULL && sp_jinja_expect_op(p, ")") ? node : NULL;
}

static sp_jnode *parse_call(sp_jparser *p, sp_jnode *callee) {
    sp_jnode *node = join(p, JN_CALL, NULL, callee, callee);
    return parse_arguments(p, node);
}

static bool slice_part(sp_jparser *p, sp_jnode **part) {
    if (sp_jinja_at_op(p, ":") || sp_jinja_at_op(p, "]") || sp_jinja_at_op(p, ",")) {
        return true;
    }
    *part = sp_jinja_parse_expression(p, true);
    return *part != NULL;
}

static sp_jnode *parse_index(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_SLICE);
    if (node == NULL || !slice_part(p, &node->b)) {
        return NULL;
    }
    if (!sp_jinja_skip_op(p, ":")) {
        return node->b == NULL ? sp_jinja_unexpected(p) : node->b;
    }
    if (!slice_part(p, &node->c) || (sp_jinja_skip_op(p, ":") && !slice_part(p, &node->d))) {
        return NULL;
    }
    return node;
}

static sp_jnode *parse_subscript(sp_jparser *p, sp_jnode *on) {
    if (sp_jinja_skip_op(p, "[")) {
        sp_jnode *index = parse_index(p);
        if (index != NULL && sp_jinja_at_op(p, ",")) {
            return sp_jinja_syntax(p, "an index of several parts is not supported");
        }
        sp_jnode *node = join(p, JN_ITEM, NULL, on, index);
        return node != NULL && sp_jinja_expect_op(p, "]") ? node : NULL;
    }
    p->at++;
    if (p->at->kind == JT_INT) {
        return join(p, JN_ITEM, NULL, on, sp_jinja_parse_primary(p));
    }
    sp_jnode *node = join(p, JN_ATTR, NULL, on, on);
    if (node == NULL) {
        return NULL;
    }
    node->value = sp_jinja_expect_name(p);
    return node->value.kind == J_STR ? node : NULL;
}

static sp_jnode *parse_postfix(sp_jparser *p, sp_jnode *node) {
    while (node != NULL) {
        if (sp_jinja_at_op(p, ".") || sp_jinja_at_op(p, "[")) {
            node = parse_subscript(p, node);
        } else if (sp_jinja_at_op(p, "(")) {
            node = parse_call(p, node);
        } else {
            break;
        }
    }
    return node;
}

/* The name of a filter or test, dots included. */
static sp_jval parse_dotted(sp_jparser *p) {
    sp_str text = SP_STR_INIT;
    sp_jval name = sp_jinja_expect_name(p);
    while (name.kind == J_STR) {
        sp_str_append(&text, name.s->s, name.s->n);
        if (!sp_jinja_skip_op(p, ".")) {
            break;
        }
        sp_str_putc(&text, '.');
        name = sp_jinja_expect_name(p);
    }
    return sp_jinja_take(p->r, &text, false);
}

sp_jnode *sp_jinja_parse_filters(sp_jparser *p, sp_jnode *on, bool inline_start) {
    while (on != NULL && (inline_start || sp_jinja_skip_op(p, "|"))) {
        sp_jnode *node = join(p, JN_FILTER, NULL, on, on);
        if (node == NULL) {
            return NULL;
        }
        node->line = p->at->line;
        node->value = parse_dotted(p);
        if (node->value.kind != J_STR) {
            return NULL;
        }
        on = sp_jinja_at_op(p, "(") ? parse_arguments(p, node) : node;
        inline_start = false;
    }
    return on;
}

static bool test_argument_follows(const sp_jparser *p) {
    switch (p->at->kind) {
    case JT_NAME:
        return !sp_jinja_at_name(p, "else") && !sp_jinja_at_name(p, "or") &&
               !sp_jinja_at_name(p, "and");
    case JT_STRING:
    case JT_INT:
    case JT_FLOAT:
        return true;
    default:
        return sp_jinja_at_op(p, "[") || sp_jinja_at_op(p, "{");
    }
}

static sp_jnode *parse_test(sp_jparser *p, sp_jnode *on) {
    const bool negated = sp_jinja_skip_name(p, "not");
    sp_jnode *node = join(p, JN_TEST, NULL, on, on);
    if (node == NULL) {
        return NULL;
    }
    node->value = parse_dotted(p);
    if (node->value.kind != J_STR) {
        return NULL;
    }
    if (sp_jinja_at_op(p, "(")) {
        node = parse_arguments(p, node);
    } else if (test_argument_follows(p)) {
        if (sp_jinja_at_name(p, "is")) {
            return sp_jinja_syntax(p, "you cannot chain multiple tests with is");
        }
        node->list = parse_postfix(p, sp_jinja_parse_primary(p));
        node = node->list == NULL ? NULL : node;
    }
    return negated ? join(p, JN_NOT, NULL, node, node) : node;
}

static sp_jnode *parse_filter_expression(sp_jparser *p, sp_jnode *node) {
    while (node != NULL) {
        if (sp_jinja_at_op(p, "|")) {
            node = sp_jinja_parse_filters(p, node, false);
        } else if (sp_jinja_skip_name(p, "is")) {
            node = parse_test(p, node);
        } else if (sp_jinja_at_op(p, "(")) {
            node = parse_call(p, node);
        } else {
            break;
        }
    }
    return node;
}

sp_jnode *sp_jinja_parse_unary(sp_jparser *p, bool filters) {
    static const char *const ops[] = {"-", "+", NULL};
    if (!sp_jinja_deeper(p)) {
        return NULL;
    }
    const char *op = skip_one_of(p, ops);
    sp_jnode *operand = op == NULL ? sp_jinja_parse_primary(p) : sp_jinja_parse_unary(p, false);
    sp_jnode *node = op == NULL ? operand : join(p, JN_UNARY, op, operand, operand);
    node = parse_postfix(p, node);
    p->depth--;
    return filters ? parse_filter_expression(p, node) : node;
}
