/* Evaluation: scopes, calls, and the tables of filters, tests, methods and globals.
 *
 * Scopes live in the arena; a macro keeps the scope it was defined in and sees its later changes.
 * A for body, a macro, a with, a call, a filter and a set block have scopes of their own; an if has
 * none.
 */
#ifndef SP_TEXT_JINJA_EVAL_H
#define SP_TEXT_JINJA_EVAL_H

#include "text/jinja_syntax.h"

typedef struct sp_jvar sp_jvar;
struct sp_jvar {
    const sp_jstr *name;
    sp_jval value; /* J_ABSENT: declared, not yet set */
    sp_jvar *next;
};

typedef struct sp_jscope sp_jscope;
struct sp_jscope {
    sp_jscope *parent;
    sp_jvar *vars;
};

sp_jscope *sp_jinja_scope(sp_jinja *r, sp_jscope *parent); /* NULL on failure */
bool sp_jinja_assign(sp_jinja *r, sp_jscope *scope, const sp_jstr *name, sp_jval value);
bool sp_jinja_define(sp_jinja *r, sp_jscope *scope, const char *name, sp_jval value);
sp_jval sp_jinja_lookup(sp_jinja *r, const sp_jscope *scope, const sp_jstr *name);

/* The arguments of a call, evaluated. */
typedef struct sp_jargs {
    const sp_jval *pos;
    size_t n_pos;
    const sp_jval *names, *values; /* keywords, n_named of them */
    size_t n_named;
} sp_jargs;

enum { SP_JINJA_PARAMS = 8 };

/* A built-in. self is what is filtered, tested, or whose method it is. params names what a[] holds:
 * "old,new,?count" (? may be left out and is then J_ABSENT); NULL: the function reads args. */
typedef sp_jval (*sp_jfunction)(sp_jinja *r, sp_jval self, const sp_jval *a, const sp_jargs *args);
typedef struct sp_jrow {
    const char *name, *params;
    sp_jfunction run; /* NULL: refused, as the sandbox refuses it */
    unsigned kinds;   /* methods: bits of the kinds that have it */
} sp_jrow;

extern const sp_jrow sp_jinja_filters[];  /* jinja_filters.c; each ends with name NULL */
extern const sp_jrow sp_jinja_tests[];    /* jinja_tests.c */
extern const sp_jrow sp_jinja_methods[];  /* jinja_methods.c */
extern const sp_jrow sp_jinja_builtins[]; /* jinja_globals.c */

struct sp_jcallable {
    const sp_jrow *row; /* NULL for a macro */
    sp_jval self;
    const sp_jnode *macro; /* MACRO or CALL_BLOCK */
    sp_jscope *scope;      /* where it was defined */
};

struct sp_jloop {
    sp_jlist *items;
    size_t index;
    int depth;
    const sp_jnode *node;
    sp_jscope *scope; /* around the loop */
    sp_jval changed;  /* the last arguments of changed(), or ABSENT */
};

const sp_jrow *sp_jinja_find_row(const sp_jrow *table, sp_jval name, unsigned kinds);
sp_jval sp_jinja_run_row(sp_jinja *r, const sp_jrow *row, sp_jval self, const sp_jargs *args);
sp_jval sp_jinja_callable(sp_jinja *r, sp_jcallable c);
sp_jval sp_jinja_call(sp_jinja *r, sp_jval callee, const sp_jargs *args);
sp_jval sp_jinja_filter(sp_jinja *r, sp_jval name, sp_jval value, const sp_jargs *args);
bool sp_jinja_test(sp_jinja *r, sp_jval name, sp_jval value, const sp_jargs *args, bool *verdict);
/* args without its first n positional ones. */
sp_jargs sp_jinja_rest(const sp_jargs *args, size_t n);

sp_jval sp_jinja_eval(sp_jinja *r, sp_jscope *scope, const sp_jnode *node);
bool sp_jinja_eval_args(sp_jinja *r, sp_jscope *scope, const sp_jnode *list, sp_jargs *args);

/* Operators and access (jinja_ops.c). */
sp_jval sp_jinja_attr(sp_jinja *r, sp_jval v, sp_jval name);
sp_jval sp_jinja_item(sp_jinja *r, sp_jval v, sp_jval key);
sp_jval sp_jinja_slice(sp_jinja *r, sp_jval v, sp_jval start, sp_jval stop, sp_jval step);
sp_jval sp_jinja_binary(sp_jinja *r, const char *op, sp_jval a, sp_jval b);
sp_jval sp_jinja_printf(sp_jinja *r, sp_jval format, sp_jval arguments); /* format % arguments */
sp_jval sp_jinja_loop_attr(sp_jinja *r, sp_jval loop, sp_jval name);     /* ABSENT: has none */

/* Statements (jinja_exec.c). */
typedef enum sp_jflow { JF_FAIL, JF_NEXT, JF_BREAK, JF_CONTINUE } sp_jflow;
sp_jflow sp_jinja_exec(sp_jinja *r, sp_jscope *scope, const sp_jnode *body);
/* What body writes; J_FAIL too when it leaves by break or continue, which *flow tells. */
sp_jval sp_jinja_capture(sp_jinja *r, sp_jscope *scope, const sp_jnode *body, sp_jflow *flow);
sp_jval sp_jinja_call_macro(sp_jinja *r, const sp_jcallable *c, const sp_jargs *args);
sp_jval sp_jinja_call_loop(sp_jinja *r, const sp_jloop *loop, const sp_jargs *args);
bool sp_jinja_emit(sp_jinja *r, const char *s, size_t n);

#endif
