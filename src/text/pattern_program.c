#include "text/pattern_program.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "text/code_points.h"

typedef enum node_kind {
    NODE_MATCH,   /* the end of the pattern */
    NODE_PASS,    /* nothing, then next: where the ways of a group meet */
    NODE_SET,     /* least..most characters of a set, then next */
    NODE_BRANCH,  /* what begins at first; in vain, what begins at next */
    NODE_LOOK,    /* a character of the set is ahead, then next */
    NODE_NOT,     /* none is */
    NODE_LINE_END /* the end of the text or a newline is */
} node_kind;

enum { MAX_NODES = 250, MAX_DEPTH = 8, MANY = 1 << 30 };

typedef struct node node;
struct node {
    node_kind kind;
    bool keeps; /* a repeat gives back nothing of what it took */
    bool empty; /* from here on the pattern may take no character */
    uint32_t least, most;
    uint64_t set;       /* bit in the table's masks */
    uint64_t begins;    /* sets that the pattern begins with from here on */
    node *next, *first; /* NULL: nowhere, which is to match in vain */
};

struct sp_program {
    node nodes[MAX_NODES];
    int n_nodes;
    const node *start;
    sp_code_table *table; /* owned */
};

/* ---- reading ---- */

/* A part of the graph that is entered at head and left by tail's next. */
typedef struct part {
    node *head, *tail;
} part;

typedef struct parser {
    const char *at;
    sp_program *program;
    sp_code_set sets[SP_CODE_SETS]; /* owned */
    size_t n_sets;
    bool refused; /* the pattern has what is not taken */
    bool failed;  /* memory ran out */
    bool caseless;
    int depth;
} parser;

static node *add_node(parser *p, node n) {
    if (p->program->n_nodes == MAX_NODES) {
        p->refused = true;
        return &p->program->nodes[0]; /* of a program that will not be used */
    }
    node *out = &p->program->nodes[p->program->n_nodes++];
    *out = n;
    return out;
}

static bool same_set(const sp_code_set *a, const sp_code_set *b) {
    return a->n == b->n &&
           (a->n == 0 || memcmp(a->ranges, b->ranges, a->n * sizeof *a->ranges) == 0);
}

/* The bit of a set with these members, which are taken over; equal sets are one. */
static uint64_t keep_set(parser *p, sp_code_set *set) {
    size_t k = 0;
    sp_code_set_close(set);
    while (k < p->n_sets && !same_set(&p->sets[k], set)) {
        k++;
    }
    if (k == SP_CODE_SETS || set->failed) {
        p->refused = true;
        p->failed = p->failed || set->failed;
        sp_code_set_release(set);
        return 0;
    }
    if (k == p->n_sets) {
        p->sets[p->n_sets++] = *set;
        *set = (sp_code_set){0};
    }
    sp_code_set_release(set);
    return (uint64_t)1 << k;
}

/* Append members, or what they leave out. Empties them. */
static void add_members(sp_code_set *set, sp_code_set *members, bool inverted) {
    if (inverted) {
        sp_code_set_invert(members);
    }
    sp_code_set_add_set(set, members);
    sp_code_set_release(members);
}

/* Behind "\p" or "\P": {Name} or {^Name} of a general category, or of a script that is known here.
 * Other names are not taken. */
static void take_property(parser *p, bool inverted, sp_code_set *set) {
    sp_code_set members = {0};
    const char *name = p->at;
    if (*name != '{') {
        p->refused = true;
        return;
    }
    name++;
    if (*name == '^') {
        inverted = !inverted;
        name++;
    }
    const size_t n = strcspn(name, "}");
    if (name[n] == '}' && sp_code_set_add_property(&members, name, n)) {
        p->at = name + n + 1;
    } else {
        p->refused = true;
    }
    add_members(set, &members, inverted);
}

/* The code point of exactly `digits` hexadecimal digits, or of any number of them up to a brace. */
static uint32_t take_hex(parser *p, size_t digits, bool braced) {
    uint32_t c = 0;
    size_t n = 0;
    p->at += braced;
    for (; isxdigit((unsigned char)*p->at) && n < (braced ? 6 : digits); n++) {
        const char one[2] = {*p->at++, 0};
        c = c << 4 | (uint32_t)strtol(one, NULL, 16);
    }
    if (n == 0 || (braced ? *p->at != '}' : n < digits) || c >= SP_CODE_POINTS) {
        p->refused = true;
        return 0;
    }
    p->at += braced;
    return c;
}

/* \w: letters, marks, digits, letters that are numbers, connectors, and the symbols that are
 * letters, circled and squared; outside of a class also the superscripts and fractions of Latin-1.
 */
static void add_word(sp_code_set *set, bool in_class) {
    static const char *const names[] = {"L", "M", "Nd", "Nl", "Pc"};
    static const uint32_t symbols[] = {0x24B6,  0x24E9,  0x1F130, 0x1F149,
                                       0x1F150, 0x1F169, 0x1F170, 0x1F189};
    static const uint32_t latin[] = {0xB2, 0xB3, 0xB9, 0xB9, 0xBC, 0xBE};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        sp_code_set_add_property(set, names[i], strlen(names[i]));
    }
    sp_code_set_add_pairs(set, symbols, sizeof symbols / sizeof symbols[0]);
    sp_code_set_add_pairs(set, latin, in_class ? 0 : sizeof latin / sizeof latin[0]);
}

/* The members of \s, \w or \d. */
static void add_named(sp_code_set *set, char letter, bool in_class) {
    if (letter == 'w') {
        add_word(set, in_class);
    } else if (letter == 'd') {
        sp_code_set_add_property(set, "Nd", 2);
    } else { /* White_Space */
        sp_code_set_add(set, '\t', '\r');
        sp_code_set_add(set, 0x85, 0x85);
        sp_code_set_add_property(set, "Z", 1);
    }
}

/* p->at is behind the backslash. True with *c: one character; else members were added to set. */
static bool take_escape(parser *p, bool in_class, sp_code_set *set, uint32_t *c) {
    static const char letters[] = "n\nr\rt\tf\fv\va\ae\033";
    sp_code_set members = {0};
    const char letter = *p->at;
    const char *found = letter ? strchr("pPsSdDwW", letter) : NULL;
    if (letter == '\0') {
        p->refused = true;
        return false;
    }
    p->at++;
    if (found) {
        const bool inverted = isupper((unsigned char)letter) != 0;
        if (letter == 'p' || letter == 'P') {
            take_property(p, inverted, set);
            return false;
        }
        add_named(&members, (char)tolower((unsigned char)letter), in_class);
        add_members(set, &members, inverted);
        return false;
    }
    for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
        if (letters[i] == letter) {
            *c = (unsigned char)letters[i + 1];
            return true;
        }
    }
    if (letter == 'u' || letter == 'x') {
        const bool braced = letter == 'x' && *p->at == '{';
        *c = take_hex(p, letter == 'u' ? 4 : 2, braced);
        p->refused = p->refused || (letter == 'x' && !braced && *c >= 0x80); /* a byte of UTF-8 */
        return true;
    }
    if (isalnum((unsigned char)letter) || (unsigned char)letter >= 0x80) {
        p->refused = true;
    }
    *c = (unsigned char)letter;
    return true;
}

static uint32_t take_character(parser *p) {
    unsigned c;
    if (*p->at == '\0') {
        p->refused = true;
        return 0;
    }
    p->at += sp_utf8_decode(p->at, strlen(p->at), &c);
    return c;
}

static void take_class(parser *p, sp_code_set *set);

/* Members of a class up to "&&" or the bracket that closes it. */
static void take_union(parser *p, sp_code_set *set) {
    while (!p->refused && *p->at && *p->at != ']' && strncmp(p->at, "&&", 2) != 0) {
        uint32_t first, last;
        bool single = true;
        if (p->at[0] == '[') {
            take_class(p, set); /* which refuses [:names:] */
            continue;
        }
        if (*p->at == '\\') {
            p->at++;
            single = take_escape(p, true, set, &first);
        } else {
            first = take_character(p);
        }
        const bool range = p->at[0] == '-' && p->at[1] && p->at[1] != ']';
        if (!single) {
            p->refused = p->refused || range;
            continue;
        }
        last = first;
        if (range) {
            p->at++;
            if (*p->at == '\\') {
                p->at++;
                p->refused = !take_escape(p, true, set, &last) || p->refused;
            } else {
                p->refused = p->refused || *p->at == '[';
                last = take_character(p);
            }
        }
        p->refused = p->refused || last < first;
        sp_code_set_add(set, first, last);
    }
}

/* At the bracket that opens a class: [...], [^...], within them classes and intersections. */
static void take_class(parser *p, sp_code_set *set) {
    sp_code_set members = {0};
    p->at++;
    const bool inverted = *p->at == '^';
    p->at += inverted;
    if (*p->at == ']' || *p->at == ':' || ++p->depth > MAX_DEPTH) {
        p->refused = true;
        return;
    }
    take_union(p, &members);
    while (!p->refused && *p->at == '&') {
        sp_code_set other = {0};
        p->at += 2;
        take_union(p, &other);
        sp_code_set_intersect(&members, &other);
        sp_code_set_release(&other);
    }
    p->refused = p->refused || *p->at != ']';
    p->at += *p->at == ']';
    p->depth--;
    add_members(set, &members, inverted);
}

/* Letters of ASCII in either case, with the two other characters that fold to them: the long s and
 * the sign for kelvin. Folding of others is not taken. */
static void fold(parser *p, sp_code_set *set) {
    const size_t n = set->n;
    for (size_t i = 0; i < n; i++) {
        const sp_code_range r = set->ranges[i];
        p->refused = p->refused || r.last >= 0x80;
        for (uint32_t c = r.first; c <= r.last && c < 0x80; c++) {
            if (isalpha((int)c)) {
                sp_code_set_add(set, c ^ 0x20U, c ^ 0x20U);
                const uint32_t like = (c | 0x20U) == 's' ? 0x17F : (c | 0x20U) == 'k' ? 0x212A : c;
                sp_code_set_add(set, like, like);
            }
        }
    }
}

/* One character of the pattern that stands for a set. */
static uint64_t take_set(parser *p) {
    sp_code_set set = {0};
    uint32_t c;
    if (*p->at == '[') {
        take_class(p, &set);
    } else if (*p->at == '\\') {
        p->at++;
        if (take_escape(p, false, &set, &c)) {
            sp_code_set_add(&set, c, c);
        }
    } else if (*p->at == '.') {
        p->at++;
        sp_code_set_add(&set, '\n', '\n');
        sp_code_set_invert(&set);
    } else {
        p->refused = p->refused || strchr("^*+?()]{}|", *p->at);
        c = take_character(p);
        sp_code_set_add(&set, c, c);
    }
    if (p->caseless) {
        fold(p, &set);
    }
    return keep_set(p, &set);
}

/* A number of a repeat; -1 where there is none. */
static int64_t take_number(parser *p) {
    int64_t n = isdigit((unsigned char)*p->at) ? 0 : -1;
    for (int k = 0; isdigit((unsigned char)*p->at) && k < 6; k++) {
        n = n * 10 + (*p->at++ - '0');
    }
    return n;
}

/* {n}, {n,}, {n,m} */
static void take_interval(parser *p, node *n) {
    p->at++;
    const int64_t least = take_number(p);
    int64_t most = least;
    if (*p->at == ',') {
        p->at++;
        most = take_number(p);
        most = most < 0 ? MANY : most;
    }
    p->refused = p->refused || least < 0 || most < least || most == 0 || *p->at != '}';
    p->at += *p->at == '}';
    n->least = (uint32_t)least;
    n->most = (uint32_t)most;
}

/* The repeat behind a character. Lazy ones, and repeats of repeats, are not taken. */
static void take_repeat(parser *p, node *n) {
    const char mark = *p->at;
    n->least = n->most = 1;
    if (mark == '{') {
        take_interval(p, n);
    } else if (mark == '*' || mark == '+' || mark == '?') {
        p->at++;
        n->least = mark == '+';
        n->most = mark == '?' ? 1 : MANY;
        n->keeps = *p->at == '+';
        p->at += n->keeps;
    }
    p->refused = p->refused || (*p->at && strchr("*+?{", *p->at));
}

static part take_alternatives(parser *p);

/* At the parenthesis that opens a group. */
static part take_group(parser *p) {
    static const char *const openings[] = {"(?:", "(?i:", "(?=", "(?!"};
    const bool caseless = p->caseless;
    int kind = -1;
    for (int i = 0; i < 4; i++) {
        kind = strncmp(p->at, openings[i], strlen(openings[i])) == 0 ? i : kind;
    }
    p->refused = p->refused || (kind < 0 && p->at[1] == '?') || ++p->depth > MAX_DEPTH;
    p->at += kind < 0 ? 1 : strlen(openings[kind]);
    part out;
    if (kind >= 2) {
        const node look = {.kind = kind == 2 ? NODE_LOOK : NODE_NOT, .set = take_set(p)};
        out.head = out.tail = add_node(p, look);
    } else {
        p->caseless = caseless || kind == 1;
        out = take_alternatives(p);
        p->caseless = caseless;
    }
    p->refused = p->refused || *p->at != ')';
    p->at += *p->at == ')';
    p->depth--;
    if (*p->at == '?' && kind < 2) { /* the group, or nothing */
        p->at++;
        node *nothing = add_node(p, (node){.kind = NODE_BRANCH, .first = out.tail});
        out.head = add_node(p, (node){.kind = NODE_BRANCH, .first = out.head, .next = nothing});
    }
    p->refused = p->refused || (*p->at && strchr("*+?{", *p->at));
    return out;
}

static part take_item(parser *p) {
    part out;
    if (*p->at == '(') {
        return take_group(p);
    }
    if (*p->at == '$') {
        p->at++;
        out.head = out.tail = add_node(p, (node){.kind = NODE_LINE_END});
        p->refused = p->refused || (*p->at && strchr("*+?{", *p->at));
        return out;
    }
    node n = {.kind = NODE_SET, .set = take_set(p)};
    take_repeat(p, &n);
    out.head = out.tail = add_node(p, n);
    return out;
}

/* Items one after another, then the node `meet`. Gives where they begin. */
static node *take_sequence(parser *p, node *meet) {
    node *head = meet;
    node *tail = NULL;
    while (!p->refused && *p->at && *p->at != '|' && *p->at != ')') {
        const part item = take_item(p);
        if (tail) {
            tail->next = item.head;
        } else {
            head = item.head;
        }
        tail = item.tail;
    }
    if (tail) {
        tail->next = meet;
    }
    return head;
}

/* Sequences apart by bars, which meet in one node. */
static part take_alternatives(parser *p) {
    part out = {NULL, add_node(p, (node){.kind = NODE_PASS})};
    for (node *last = NULL; !p->refused;) {
        node *first = take_sequence(p, out.tail);
        node *branch = add_node(p, (node){.kind = NODE_BRANCH, .first = first});
        if (last) {
            last->next = branch;
        } else {
            out.head = branch;
        }
        last = branch;
        if (*p->at != '|') {
            break;
        }
        p->at++;
    }
    return out;
}

/* ---- the graph ---- */

static node *past_meets(node *n) {
    while (n && n->kind == NODE_PASS) {
        n = n->next;
    }
    return n;
}

/* Fill in begins and empty of a node, after those of the nodes behind it. */
static void look_ahead(const sp_program *m, node *n, bool *done) {
    if (!n || done[n - m->nodes]) {
        return;
    }
    done[n - m->nodes] = true;
    n->next = past_meets(n->next);
    look_ahead(m, n->next, done);
    if (n->next) {
        n->begins = n->next->begins;
        n->empty = n->next->empty;
    }
    switch (n->kind) {
    case NODE_MATCH:
        n->empty = true;
        break;
    case NODE_SET:
        n->begins = n->set | (n->least == 0 ? n->begins : 0);
        n->empty = n->least == 0 && n->empty;
        break;
    case NODE_BRANCH:
        n->first = past_meets(n->first);
        look_ahead(m, n->first, done);
        n->begins |= n->first->begins;
        n->empty = n->empty || n->first->empty;
        break;
    default:
        break;
    }
}

/* Whether a repeat may keep all that it took: the match ends there, or goes on with what the repeat
 * cannot have taken. */
static bool may_keep(const sp_program *m, const node *n) {
    if (n->next->kind == NODE_MATCH) {
        return true;
    }
    for (size_t k = 0; k < m->table->n_masks; k++) {
        const uint64_t mask = m->table->masks[k];
        if ((mask & n->set) && (mask & n->next->begins)) {
            return false;
        }
    }
    return !n->next->empty;
}

static void find_keeping(sp_program *m) {
    for (int i = 0; i < m->n_nodes; i++) {
        node *n = &m->nodes[i];
        if (n->kind == NODE_SET && n->next) {
            n->keeps = n->keeps || may_keep(m, n);
        }
    }
}

static void parse(parser *p) {
    const part all = take_alternatives(p);
    p->refused = p->refused || *p->at != '\0';
    if (p->refused) {
        return;
    }
    bool done[MAX_NODES] = {false};
    all.tail->next = add_node(p, (node){.kind = NODE_MATCH});
    p->program->start = all.head;
    if (!p->refused) {
        look_ahead(p->program, all.head, done);
        p->refused = all.head->empty;
    }
}

spar_status sp_program_compile(sp_program **out, const char *pattern, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    parser p = {.at = pattern};
    *out = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *p.program, err));
    p.program = memory;
    parse(&p);
    if (p.failed) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a pattern"));
    }
    if (!p.refused) {
        SPAR_TRY(sp_code_table_create(&p.program->table, p.sets, p.n_sets, err));
        find_keeping(p.program);
        *out = p.program;
        p.program = NULL;
    }
done:
    for (size_t k = 0; k < p.n_sets; k++) {
        sp_code_set_release(&p.sets[k]);
    }
    sp_program_free(p.program);
    return status;
}

void sp_program_free(sp_program *m) {
    if (m) {
        sp_code_table_free(m->table);
        free(m);
    }
}

/* ---- matching ---- */

typedef struct search {
    const sp_program *program;
    const unsigned char *end;
    int64_t budget; /* bytes that may yet be taken, and ways tried */
} search;

/* The sets that have the character at p, and its bytes. */
static inline uint64_t sets_at(const search *s, const unsigned char *p, size_t *used) {
    if (p == s->end) {
        *used = 0;
        return 0;
    }
    if (*p < 0x80) {
        *used = 1;
        return s->program->table->ascii[*p];
    }
    return sp_code_mask(s->program->table, sp_code_point(p, s->end, used));
}

static const unsigned char *step_back(const unsigned char *p) {
    do {
        p--;
    } while ((*p & 0xC0U) == 0x80U);
    return p;
}

/* As many characters as a repeat takes from p on: their end, and *count. */
static inline const unsigned char *take_most(search *s, const node *n, const unsigned char *p,
                                             uint32_t *count) {
    const unsigned char *const begin = p;
    const uint64_t *ascii = s->program->table->ascii;
    *count = 0;
    while (*count < n->most && p < s->end) {
        size_t used = 1;
        if (!((*p < 0x80 ? ascii[*p] : sets_at(s, p, &used)) & n->set)) {
            break;
        }
        p += used;
        ++*count;
    }
    s->budget -= p - begin;
    return p;
}

static const unsigned char *match_from(search *s, const node *n, const unsigned char *p);

/* What follows a repeat that took `count` characters up to p, or, in vain, one less at a time. */
static const unsigned char *give_back(search *s, const node *n, const unsigned char *p,
                                      uint32_t count) {
    for (; s->budget >= 0; count--, s->budget--) {
        const unsigned char *end = match_from(s, n->next, p);
        if (end || count == n->least) {
            return end;
        }
        p = step_back(p);
    }
    return NULL;
}

/* The end of the match that goes on with node n at p, or NULL. Calls nest as nodes follow one
 * another, so at most MAX_NODES deep. */
static const unsigned char *match_from(search *s, const node *n, const unsigned char *p) {
    for (; n && s->budget >= 0; n = n->next) {
        size_t used;
        uint32_t count;
        switch (n->kind) {
        case NODE_MATCH:
            return p;
        case NODE_SET:
            p = take_most(s, n, p, &count);
            if (count < n->least) {
                return NULL;
            }
            if (!n->keeps && count > n->least) {
                return give_back(s, n, p, count);
            }
            break;
        case NODE_BRANCH:
            s->budget--;
            if (n->first->empty || (sets_at(s, p, &used) & n->first->begins)) {
                const unsigned char *end = match_from(s, n->first, p);
                if (end) {
                    return end;
                }
            }
            break;
        case NODE_LOOK:
        case NODE_NOT:
            if (((sets_at(s, p, &used) & n->set) != 0) != (n->kind == NODE_LOOK)) {
                return NULL;
            }
            break;
        case NODE_LINE_END:
            if (p != s->end && *p != '\n') {
                return NULL;
            }
            break;
        case NODE_PASS:
            break;
        }
    }
    return NULL;
}

spar_status sp_program_find(const sp_program *m, const char *text, size_t n, size_t at,
                            size_t *begin, size_t *end, bool *found, spar_error *err) {
    const unsigned char *const base = (const unsigned char *)text;
    search s = {m, base + n, 10000000 + 64 * (int64_t)n};
    const uint64_t begins = m->start->begins;
    size_t used = 0;
    *found = false;
    for (const unsigned char *p = base + at; p < s.end && !*found; p += used) {
        if (!(sets_at(&s, p, &used) & begins)) {
            continue;
        }
        const unsigned char *to = match_from(&s, m->start, p);
        if (s.budget < 0) {
            return spar_fail(err, SPAR_LIMIT,
                             "a pattern: expected one that matches or fails soon, found one that "
                             "tries too long on a text of %zu bytes",
                             n);
        }
        if (to) {
            *begin = (size_t)(p - base);
            *end = (size_t)(to - base);
            *found = true;
        }
    }
    return SPAR_OK;
}
