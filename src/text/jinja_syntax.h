/* The template language as tokens and as a tree. Both live in the arena of the compilation, which
 * the compiled template keeps; a tree is never changed after parsing. */
#ifndef SP_TEXT_JINJA_SYNTAX_H
#define SP_TEXT_JINJA_SYNTAX_H

#include "text/jinja_value.h"

typedef enum sp_jtoken_kind {
    JT_END,
    JT_DATA, /* text between tags, white space control applied */
    JT_BLOCK_BEGIN,
    JT_BLOCK_END,
    JT_VARIABLE_BEGIN,
    JT_VARIABLE_END,
    JT_NAME,
    JT_INT,
    JT_FLOAT,
    JT_STRING,
    JT_OPERATOR
} sp_jtoken_kind;

typedef struct sp_jtoken {
    sp_jtoken_kind kind;
    int line;
    const char *text; /* DATA, NAME: bytes; OPERATOR: a NUL-terminated constant */
    size_t n;
    sp_jval value; /* INT, FLOAT, STRING */
} sp_jtoken;

/* Tokens of source, ended by JT_END; *tokens lives in the arena. False on failure. */
bool sp_jinja_lex(sp_jinja *r, const char *source, size_t n, sp_jtoken **tokens);

/* X(kind, evaluator): the expressions. a, b, c are operands; list is the first of many. */
#define SP_JINJA_EXPRESSIONS(X)                                                                    \
    X(CONST, constant)      /* value */                                                            \
    X(NAME, name)           /* value: the name */                                                  \
    X(ATTR, attribute)      /* a.value */                                                          \
    X(ITEM, item)           /* a[b] */                                                             \
    X(SLICE, slice)         /* a[b:c:d], each but a may be NULL; only under ITEM */                \
    X(CALL, call)           /* a(list) */                                                          \
    X(FILTER, filter)       /* a | value(list) */                                                  \
    X(TEST, test)           /* a is value(list) */                                                 \
    X(AND, and)             /* a and b */                                                          \
    X(OR, or)               /* a or b */                                                           \
    X(NOT, not )            /* not a */                                                            \
    X(COMPARE, compare)     /* a, then list of OPERAND */                                          \
    X(BINARY, binary)       /* a op b */                                                           \
    X(UNARY, unary)         /* op a */                                                             \
    X(CONCAT, concat)       /* list joined by ~ */                                                 \
    X(CONDITION, condition) /* a if b else c (NULL) */                                             \
    X(LIST, list)           /* [list] */                                                           \
    X(TUPLE, tuple)         /* (list) */                                                           \
    X(DICT, dict)           /* {list}: each a PAIR */

/* X(kind, executor): the statements. body and orelse are lists of statements. */
#define SP_JINJA_STATEMENTS(X)                                                                     \
    X(DATA, data)            /* value */                                                           \
    X(PRINT, print)          /* {{ a }} */                                                         \
    X(IF, if)                /* list of BRANCH (a, NULL for else; body) */                         \
    X(FOR, for)              /* a: target, b: what to walk, c: filter; body, orelse; recursive */  \
    X(SET, set)              /* a: target, b: value */                                             \
    X(SET_BLOCK, set_block)       /* a: target, b: filter over HOLE or NULL; body */               \
    X(MACRO, macro)               /* value: name; list: of PARAM; body */                          \
    X(CALL_BLOCK, call_block)     /* a: the call; list, body: of caller() */                       \
    X(FILTER_BLOCK, filter_block) /* b: filter over HOLE; body */                                  \
    X(WITH, with)                 /* list: of SET; body */                                         \
    X(SCOPE, scope)               /* body: in a scope of its own */                                \
    X(GENERATION, generation)     /* body: the same, and where it writes is noted */               \
    X(DECLARE, declare)           /* list: of NAME, undefined in this scope until set */           \
    X(BREAK, break)                                                                                \
    X(CONTINUE, continue)

typedef enum sp_jnode_kind {
#define X(name, function) JN_##name,
    SP_JINJA_EXPRESSIONS(X)
        JN_HOLE, /* what a filter of a block filters; evaluates to value given at run time */
    JN_PAIR,     /* a: b of a dict */
    JN_OPERAND,  /* op a of a comparison */
    JN_KEYWORD,  /* value=a of a call */
    JN_STAR,     /* *a of a call */
    JN_STAR2,    /* **a of a call */
    JN_NSREF,    /* target name.attribute: value, b->value */
    JN_BRANCH,
    JN_PARAM,     /* value: name, a: default or NULL */
    JN_STATEMENT, /* not a node: statements follow */
    SP_JINJA_STATEMENTS(X)
#undef X
        JN_COUNT
} sp_jnode_kind;

typedef struct sp_jnode sp_jnode;
struct sp_jnode {
    sp_jnode_kind kind;
    int line;
    bool recursive;   /* FOR */
    bool uses_caller; /* MACRO: names caller, so one may be passed */
    bool uses_varargs, uses_kwargs;
    const char *op; /* BINARY, UNARY, OPERAND: the operator as written; "notin" */
    sp_jval value;
    sp_jnode *a, *b, *c, *d;
    sp_jnode *list, *body, *orelse;
    sp_jnode *next; /* within the list that holds this node */
};

/* The parser walks the tokens; jinja_parse.c has expressions, jinja_block.c statements. */
typedef struct sp_jparser {
    sp_jinja *r;
    const sp_jtoken *at; /* the current token */
    int depth, loops;
    sp_jnode *macro; /* the macro or call block whose body is being read */
} sp_jparser;

sp_jnode *sp_jinja_node(sp_jparser *p, sp_jnode_kind kind); /* at the current line */
sp_jnode *sp_jinja_syntax(sp_jparser *p, const char *fmt, ...) SPAR_PRINTF(2, 3); /* NULL */
sp_jnode *sp_jinja_unexpected(sp_jparser *p);
bool sp_jinja_at_name(const sp_jparser *p, const char *name);
bool sp_jinja_at_op(const sp_jparser *p, const char *op);
bool sp_jinja_skip_name(sp_jparser *p, const char *name);
bool sp_jinja_skip_op(sp_jparser *p, const char *op);
bool sp_jinja_expect_op(sp_jparser *p, const char *op);
bool sp_jinja_expect_kind(sp_jparser *p, sp_jtoken_kind kind, const char *what);
sp_jval sp_jinja_expect_name(sp_jparser *p); /* a string value; J_FAIL */
bool sp_jinja_deeper(sp_jparser *p);         /* pair with p->depth-- when true */

sp_jnode *sp_jinja_parse_expression(sp_jparser *p, bool condition);
/* Expressions with commas between: a tuple. end: a name that also ends it, or NULL. */
sp_jnode *sp_jinja_parse_tuple(sp_jparser *p, bool condition, const char *end, bool parentheses);
sp_jnode *sp_jinja_parse_target(sp_jparser *p, const char *end, bool namespaces);
sp_jnode *sp_jinja_parse_primary(sp_jparser *p);
sp_jnode *sp_jinja_parse_filters(sp_jparser *p, sp_jnode *on, bool inline_start);
sp_jnode *sp_jinja_parse_unary(sp_jparser *p, bool filters);

/* Put a DECLARE in front of the bodies that need one (jinja_scopes.c). */
void sp_jinja_settle_names(sp_jinja *r, sp_jnode **body);

/* The whole template: its statements, NULL when empty or (r->failed) on failure. */
sp_jnode *sp_jinja_parse(sp_jinja *r, const char *source, size_t n);

#endif
