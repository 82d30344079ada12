/* Statements of the template language. */
#include <string.h>

#include "text/jinja_syntax.h"

/* Names that end the body being read. */
typedef struct ends {
    const char *names[3]; /* NULL where there are fewer */
} ends;

static bool parse_body(sp_jparser *p, ends end, sp_jnode **body);

static bool at_end(const sp_jparser *p, ends end) {
    for (size_t i = 0; i < 3 && end.names[i] != NULL; i++) {
        if (sp_jinja_at_name(p, end.names[i])) {
            return true;
        }
    }
    return false;
}

/* "%}", the body, and its end tag's name, which is left as the current token. */
static bool parse_until(sp_jparser *p, ends end, sp_jnode **body) {
    sp_jinja_skip_op(p, ":");
    return sp_jinja_expect_kind(p, JT_BLOCK_END, "end of statement block") &&
           parse_body(p, end, body);
}

/* The same for a body with one end tag, which is skipped. */
static bool parse_to(sp_jparser *p, const char *end, sp_jnode **body) {
    if (!parse_until(p, (ends){{end}}, body)) {
        return false;
    }
    p->at++;
    return true;
}

static sp_jnode *parse_if(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_IF);
    sp_jnode **tail = node == NULL ? NULL : &node->list;
    bool last = false;
    while (node != NULL && !sp_jinja_at_name(p, "endif")) {
        if (last) {
            return sp_jinja_unexpected(p);
        }
        sp_jnode *branch = sp_jinja_node(p, JN_BRANCH);
        last = sp_jinja_skip_name(p, "else");
        if (branch == NULL) {
            return NULL;
        }
        if (!last) {
            p->at++;
            branch->a = sp_jinja_parse_tuple(p, false, NULL, false);
        }
        if ((!last && branch->a == NULL) ||
            !parse_until(p, (ends){{"elif", "else", "endif"}}, &branch->body)) {
            return NULL;
        }
        *tail = branch;
        tail = &branch->next;
    }
    p->at++;
    return node;
}

static bool parse_for_bodies(sp_jparser *p, sp_jnode *node) {
    p->loops++;
    const bool good = parse_until(p, (ends){{"endfor", "else"}}, &node->body);
    p->loops--;
    if (!good) {
        return false;
    }
    if (sp_jinja_skip_name(p, "else")) {
        return parse_to(p, "endfor", &node->orelse);
    }
    p->at++;
    return true;
}

static sp_jnode *parse_for(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_FOR);
    p->at++;
    if (node == NULL || (node->a = sp_jinja_parse_target(p, "in", false)) == NULL) {
        return NULL;
    }
    if (!sp_jinja_skip_name(p, "in")) {
        return sp_jinja_unexpected(p);
    }
    node->b = sp_jinja_parse_tuple(p, false, "recursive", false);
    if (node->b == NULL) {
        return NULL;
    }
    if (sp_jinja_skip_name(p, "if") && (node->c = sp_jinja_parse_expression(p, true)) == NULL) {
        return NULL;
    }
    node->recursive = sp_jinja_skip_name(p, "recursive");
    return parse_for_bodies(p, node) ? node : NULL;
}

static sp_jnode *parse_set(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_SET);
    p->at++;
    if (node == NULL || (node->a = sp_jinja_parse_target(p, NULL, true)) == NULL) {
        return NULL;
    }
    if (sp_jinja_skip_op(p, "=")) {
        node->b = sp_jinja_parse_tuple(p, true, NULL, false);
        return node->b == NULL ? NULL : node;
    }
    node->kind = JN_SET_BLOCK;
    if (sp_jinja_at_op(p, "|")) {
        node->b = sp_jinja_parse_filters(p, sp_jinja_node(p, JN_HOLE), false);
        if (node->b == NULL) {
            return NULL;
        }
    }
    return parse_to(p, "endset", &node->body) ? node : NULL;
}

static bool parse_signature(sp_jparser *p, sp_jnode *node) {
    sp_jnode **tail = &node->list;
    bool defaults = false;
    if (!sp_jinja_expect_op(p, "(")) {
        return false;
    }
    while (!sp_jinja_at_op(p, ")")) {
        if (node->list != NULL && !sp_jinja_expect_op(p, ",")) {
            return false;
        }
        sp_jnode *param = sp_jinja_node(p, JN_PARAM);
        if (param == NULL || (param->value = sp_jinja_expect_name(p)).kind != J_STR) {
            return false;
        }
        if (sp_jinja_skip_op(p, "=")) {
            param->a = sp_jinja_parse_expression(p, true);
            defaults = true;
        }
        if (defaults && param->a == NULL) {
            sp_jinja_syntax(p, "non-default argument follows default argument");
            return false;
        }
        *tail = param;
        tail = &param->next;
    }
    return sp_jinja_expect_op(p, ")");
}

/* The body of a macro or a call block: loops outside do not reach in. */
static bool parse_macro_body(sp_jparser *p, sp_jnode *node, const char *end) {
    const int loops = p->loops;
    p->loops = 0;
    node->d = p->macro;
    p->macro = node;
    const bool good = parse_to(p, end, &node->body);
    p->macro = node->d;
    p->loops = loops;
    return good;
}

static sp_jnode *parse_macro(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_MACRO);
    p->at++;
    if (node == NULL || (node->value = sp_jinja_expect_name(p)).kind != J_STR) {
        return NULL;
    }
    return parse_signature(p, node) && parse_macro_body(p, node, "endmacro") ? node : NULL;
}

static sp_jnode *parse_call_block(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_CALL_BLOCK);
    p->at++;
    if (node == NULL || (sp_jinja_at_op(p, "(") && !parse_signature(p, node))) {
        return NULL;
    }
    node->a = sp_jinja_parse_expression(p, true);
    if (node->a != NULL && node->a->kind != JN_CALL) {
        return sp_jinja_syntax(p, "expected a call");
    }
    node->value = sp_jinja_borrow(p->r, "caller", 6, false);
    return node->a != NULL && parse_macro_body(p, node, "endcall") ? node : NULL;
}

static sp_jnode *parse_filter_block(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_FILTER_BLOCK);
    p->at++;
    if (node == NULL) {
        return NULL;
    }
    node->b = sp_jinja_parse_filters(p, sp_jinja_node(p, JN_HOLE), true);
    return node->b != NULL && parse_to(p, "endfilter", &node->body) ? node : NULL;
}

static sp_jnode *parse_with(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_WITH);
    sp_jnode **tail = node == NULL ? NULL : &node->list;
    p->at++;
    while (node != NULL && p->at->kind != JT_BLOCK_END) {
        sp_jnode *set = sp_jinja_node(p, JN_SET);
        if (set == NULL || (node->list != NULL && !sp_jinja_expect_op(p, ",")) ||
            (set->a = sp_jinja_parse_target(p, NULL, false)) == NULL ||
            !sp_jinja_expect_op(p, "=") || (set->b = sp_jinja_parse_expression(p, true)) == NULL) {
            return NULL;
        }
        *tail = set;
        tail = &set->next;
    }
    return node != NULL && parse_to(p, "endwith", &node->body) ? node : NULL;
}

static sp_jnode *parse_print(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_PRINT);
    p->at++;
    if (node != NULL) {
        node->a = sp_jinja_parse_tuple(p, true, NULL, false);
        if (node->a != NULL && node->a->kind == JN_TUPLE) {
            node->a->kind = JN_CONCAT; /* {% print a, b %} writes one after the other */
        }
    }
    return node == NULL || node->a == NULL ? NULL : node;
}

/* {% generation %} marks what the assistant wrote. */
static sp_jnode *parse_generation(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_GENERATION);
    const int loops = p->loops;
    p->at++;
    p->loops = 0;
    p->r->marks = true;
    const bool good = node != NULL && parse_to(p, "endgeneration", &node->body);
    p->loops = loops;
    return good ? node : NULL;
}

static sp_jnode *parse_block(sp_jparser *p) {
    sp_jnode *node = sp_jinja_node(p, JN_SCOPE);
    p->at++;
    const sp_jval name = sp_jinja_expect_name(p);
    if (node == NULL || name.kind != J_STR) {
        return NULL;
    }
    sp_jinja_skip_name(p, "scoped");
    if (!parse_to(p, "endblock", &node->body)) {
        return NULL;
    }
    if (p->at->kind == JT_NAME && p->at->n == name.s->n &&
        memcmp(p->at->text, name.s->s, name.s->n) == 0) {
        p->at++;
    }
    return node;
}

static sp_jnode *parse_control(sp_jparser *p, sp_jnode_kind kind) {
    if (p->loops == 0) {
        return sp_jinja_syntax(p, "'break' or 'continue' outside of a loop");
    }
    sp_jnode *node = sp_jinja_node(p, kind);
    p->at++;
    return node;
}

static sp_jnode *parse_break(sp_jparser *p) {
    return parse_control(p, JN_BREAK);
}

static sp_jnode *parse_continue(sp_jparser *p) {
    return parse_control(p, JN_CONTINUE);
}

static sp_jnode *parse_foreign(sp_jparser *p) {
    p->r->line = p->at->line;
    sp_jinja_error(p->r, SPAR_UNSUPPORTED, "a chat template stands alone: '%.*s' is refused",
                   (int)(p->at->n < 20 ? p->at->n : 20), p->at->text);
    return NULL;
}

static const struct {
    const char *name;
    sp_jnode *(*parse)(sp_jparser *p);
} tags[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"print", parse_print},
    {"generation", parse_generation},
    {"block", parse_block},
    {"break", parse_break},
    {"continue", parse_continue},
    {"include", parse_foreign},
    {"import", parse_foreign},
    {"from", parse_foreign},
    {"extends", parse_foreign},
    {"autoescape", parse_foreign},
};

static sp_jnode *parse_statement(sp_jparser *p) {
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        if (sp_jinja_at_name(p, tags[i].name)) {
            return tags[i].parse(p);
        }
    }
    if (p->at->kind == JT_NAME) {
        return sp_jinja_syntax(p, "unknown tag '%.*s'", (int)(p->at->n < 60 ? p->at->n : 60),
                               p->at->text);
    }
    return sp_jinja_unexpected(p);
}

/* One piece of a body: data, {{ }} or {% %}. */
static sp_jnode *parse_piece(sp_jparser *p) {
    const sp_jtoken *t = p->at;
    sp_jnode *node = NULL;
    p->at++;
    if (t->kind == JT_DATA) {
        p->at--;
        node = sp_jinja_node(p, JN_DATA);
        p->at++;
        if (node != NULL) {
            node->value = sp_jinja_borrow(p->r, t->text, t->n, false);
        }
        return node;
    }
    if (t->kind == JT_BLOCK_BEGIN) {
        node = parse_statement(p);
        return node != NULL && sp_jinja_expect_kind(p, JT_BLOCK_END, "end of statement block")
                   ? node
                   : NULL;
    }
    node = sp_jinja_node(p, JN_PRINT);
    if (node != NULL) {
        node->a = sp_jinja_parse_tuple(p, true, NULL, false);
    }
    if (node == NULL || node->a == NULL ||
        !sp_jinja_expect_kind(p, JT_VARIABLE_END, "end of print statement")) {
        return NULL;
    }
    return node;
}

static bool parse_pieces(sp_jparser *p, ends end, sp_jnode **body) {
    while (p->at->kind != JT_END) {
        if (p->at->kind == JT_BLOCK_BEGIN) {
            p->at++;
            if (at_end(p, end)) {
                return true;
            }
            p->at--;
        }
        *body = parse_piece(p);
        if (*body == NULL) {
            return false;
        }
        body = &(*body)->next;
    }
    if (end.names[0] != NULL) {
        sp_jinja_syntax(p, "unexpected end of template, looking for '%s'", end.names[0]);
        return false;
    }
    return true;
}

static bool parse_body(sp_jparser *p, ends end, sp_jnode **body) {
    if (!sp_jinja_deeper(p)) {
        return false;
    }
    const bool good = parse_pieces(p, end, body);
    p->depth--;
    return good;
}

sp_jnode *sp_jinja_parse(sp_jinja *r, const char *source, size_t n) {
    sp_jtoken *tokens = NULL;
    sp_jnode *body = NULL;
    if (!sp_jinja_lex(r, source, n, &tokens)) {
        return NULL;
    }
    sp_jparser p = {.r = r, .at = tokens};
    if (!parse_body(&p, (ends){{NULL}}, &body)) {
        return NULL;
    }
    sp_jinja_settle_names(r, &body);
    return r->failed ? NULL : body;
}
