/* Values of the template language, and the bounded render they live in.
 *
 * A value is passed by value; what it points to lives in the arena of its render and is never
 * freed on its own. Values are immutable but for namespaces, generators (which run dry), cyclers,
 * joiners and loops.
 *
 * Failure travels in the values, as NULL does in CPython: a function that fails notes the first
 * error in its render and returns a J_FAIL value, NULL or false, and its caller passes that on.
 * Only the public functions of chat_template.h turn it into a spar_status.
 */
#ifndef SP_TEXT_JINJA_VALUE_H
#define SP_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/str.h"
#include "spar/status.h"

struct json_t;

enum {
    SP_JINJA_MEMORY = 64 << 20, /* bytes of arena a render may take */
    SP_JINJA_OUTPUT = 64 << 20, /* bytes written, captured text included */
    SP_JINJA_STEPS = 10000000,
    SP_JINJA_DEPTH = 800,       /* nested evaluations, and nesting of values */
    SP_JINJA_PARSE_DEPTH = 150, /* nested expressions and blocks of the source */
    SP_JINJA_RANGE = 100000     /* items of a range, as Jinja2's sandbox has it */
};

typedef enum sp_jkind {
    J_FAIL,   /* an error is noted in the render */
    J_ABSENT, /* an argument that was not given */
    J_UNDEF,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_VIEW,  /* keys(), values() or items() of a dict */
    J_GEN,   /* what map, select, items, ... give: iterable once */
    J_RANGE, /* a list of ints that prints as range(...) */
    J_NAMESPACE,
    J_CALLABLE,
    J_LOOP,
    J_CYCLER,
    J_JOINER
} sp_jkind;

/* UTF-8 text, NUL-free or not: n counts. chars is SIZE_MAX until it was counted. */
typedef struct sp_jstr {
    const char *s;
    size_t n, chars;
    bool markup; /* Markup: adding to it escapes the other side */
} sp_jstr;

typedef struct sp_jlist sp_jlist;
typedef struct sp_jdict sp_jdict;
typedef struct sp_jcallable sp_jcallable;
typedef struct sp_jloop sp_jloop;

typedef struct sp_jval {
    sp_jkind kind;
    union {
        bool b;
        int64_t i;
        double d;
        sp_jstr *s;
        sp_jlist *l;        /* LIST, TUPLE, VIEW, GEN, RANGE, CYCLER; JOINER: its separator */
        sp_jdict *m;        /* DICT, NAMESPACE */
        const char *undef;  /* UNDEF: what is said when it is used */
        sp_jcallable *call; /* CALLABLE */
        sp_jloop *loop;
    };
} sp_jval;

struct sp_jlist {
    sp_jval *items;
    size_t n, capacity;
    size_t pos;                /* GEN: items already taken; CYCLER, JOINER: turns taken */
    const char *label;         /* VIEW: "dict_keys"; else: a group */
    int64_t start, stop, step; /* RANGE: for its repr */
};

struct sp_jdict {
    sp_jval *keys, *values; /* in order of insertion */
    size_t n, capacity;
};

/* What generation blocks wrote (jinja_marks.h). */
typedef struct sp_jmarks sp_jmarks;
typedef struct sp_jtraces sp_jtraces;

/* One compilation or one render. */
typedef struct sp_jinja {
    sp_arena arena;
    size_t memory, output, steps; /* spent so far */
    int depth;
    const char *where; /* borrowed */
    int line;          /* of the statement or expression under way */
    bool failed;
    spar_error error;
    const char *now;    /* borrowed, "YYYY-MM-DD" or NULL */
    sp_str *out;        /* where text goes: the render's, or a capture's */
    sp_jval hole;       /* what the filter of a block is given */
    bool marks;         /* compilation: a generation block was read */
    sp_jmarks *marked;  /* what blocks wrote of out; NULL: it is not noted */
    sp_jtraces *traces; /* and of captured texts; where marked is not NULL */
} sp_jinja;

/* Note the first error. The forms return what their callers return. */
void sp_jinja_error(sp_jinja *r, spar_status code, const char *fmt, ...) SPAR_PRINTF(3, 4);
#define sp_jinja_fail(r, code, ...) (sp_jinja_error((r), (code), __VA_ARGS__), sp_jinja_failed())
sp_jval sp_jinja_failed(void);

bool sp_jinja_step(sp_jinja *r, size_t n); /* spend n steps */
bool sp_jinja_enter(sp_jinja *r);          /* one level deeper; pair with leave when true */
void sp_jinja_leave(sp_jinja *r);
void *sp_jinja_alloc(sp_jinja *r, size_t n); /* zeroed; NULL past the budget */

/* Plain values. */
sp_jval sp_jinja_none(void);
sp_jval sp_jinja_bool(bool b);
sp_jval sp_jinja_int(int64_t i);
sp_jval sp_jinja_float(double d);
sp_jval sp_jinja_undefined(sp_jinja *r, const char *fmt, ...) SPAR_PRINTF(2, 3);

/* Strings. text copies; borrow points to bytes that outlive the render or live in its arena. */
sp_jval sp_jinja_text(sp_jinja *r, const char *s, size_t n);
sp_jval sp_jinja_borrow(sp_jinja *r, const char *s, size_t n, bool markup);
sp_jval sp_jinja_take(sp_jinja *r, sp_str *s, bool markup); /* copies and releases s */
bool sp_jinja_room(sp_jinja *r, const sp_str *s);   /* a builder within the memory budget? */
size_t sp_jinja_chars(sp_jval v);                   /* code points of a string */
size_t sp_jinja_offset(const sp_jstr *s, size_t i); /* byte offset of code point i */
bool sp_jinja_is(sp_jval v, const char *text);      /* a string equal to text? */
bool sp_jinja_same_text(const sp_jstr *a, const sp_jstr *b);

/* Lists (any kind that holds one) and dicts. */
sp_jval sp_jinja_list(sp_jinja *r, sp_jkind kind, size_t capacity);
bool sp_jinja_push(sp_jinja *r, sp_jval list, sp_jval item);
sp_jval sp_jinja_pair(sp_jinja *r, sp_jval a, sp_jval b); /* a tuple of two */
sp_jval sp_jinja_dict(sp_jinja *r, sp_jkind kind);
/* Whether it may be a key; where not, the failure is noted. */
bool sp_jinja_hashable(sp_jinja *r, sp_jval key);
/* Set, replacing; keys must be hashable. */
bool sp_jinja_put(sp_jinja *r, sp_jval dict, sp_jval key, sp_jval value);
bool sp_jinja_put_text(sp_jinja *r, sp_jval dict, const char *key, sp_jval value);
/* The value of key, or J_ABSENT; J_FAIL where the key cannot be hashed. */
sp_jval sp_jinja_get(sp_jinja *r, sp_jval dict, sp_jval key);

/* Python's view of values. */
bool sp_jinja_truth(sp_jval v);
bool sp_jinja_is_number(sp_jval v);            /* bool, int or float */
double sp_jinja_number(sp_jval v);             /* of such a value */
bool sp_jinja_as_int(sp_jval v, int64_t *out); /* int or bool */
bool sp_jinja_equal(sp_jinja *r, sp_jval a, sp_jval b);
/* *order < 0, 0, > 0; false (and an error noted) where the two have no order. */
bool sp_jinja_compare(sp_jinja *r, sp_jval a, sp_jval b, const char *op, int *order);
bool sp_jinja_has_length(sp_jval v);
size_t sp_jinja_length(sp_jval v);
bool sp_jinja_iterable(sp_jval v);
/* A list of what iterating v gives (it may be v's own list); runs a generator dry. */
sp_jval sp_jinja_iterate(sp_jinja *r, sp_jval v);
bool sp_jinja_contains(sp_jinja *r, sp_jval container, sp_jval item, bool *found);
const char *sp_jinja_type_name(sp_jval v); /* Python's: "str", "NoneType", ... */

sp_jval sp_jinja_from_json(sp_jinja *r, const struct json_t *json);

/* Text (jinja_format.c). */
bool sp_jinja_put_str(sp_jinja *r, sp_str *out, sp_jval v);  /* as str() */
bool sp_jinja_put_repr(sp_jinja *r, sp_str *out, sp_jval v); /* as repr() */
sp_jval sp_jinja_str(sp_jinja *r, sp_jval v);                /* v itself when a string */
void sp_jinja_put_float(sp_str *out, double d);
typedef struct sp_jinja_json {
    bool ensure_ascii, sort_keys;
    sp_jval indent; /* none, an int or a string */
    sp_jval item_separator, key_separator;
} sp_jinja_json;
bool sp_jinja_put_json(sp_jinja *r, sp_str *out, sp_jval v, const sp_jinja_json *how);
void sp_jinja_put_escaped(sp_str *out, const sp_jstr *s); /* & < > " ' as markupsafe has them */
sp_jval sp_jinja_escape(sp_jinja *r, sp_jval v);          /* Markup */

#endif
