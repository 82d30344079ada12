/* Names that a scope stores before it reads them.
 *
 * Jinja2 settles the scope of names when it compiles. A name that a scope stores, and that nothing
 * before in that scope (nor in a scope around it) mentions, belongs to the scope from its start: a
 * loop or a macro inside that reads it too early finds it undefined, even where the caller gave a
 * variable of that name. A name stored only in branches of an if keeps the outer value until then.
 * This pass puts a DECLARE in front of each body that has such names.
 */
#include "text/jinja_syntax.h"

typedef struct mention mention;
struct mention {
    sp_jval name;
    bool late; /* undefined until it is stored */
    mention *next;
};
typedef struct frame frame;
struct frame {
    sp_jinja *r;
    const frame *parent;
    mention *names;
};
static void settle(sp_jinja *r, const frame *parent, sp_jnode *params, sp_jnode **body);

static bool mentions(const frame *f, sp_jval name) {
    for (const mention *m = f->names; m != NULL && sp_jinja_step(f->r, 1); m = m->next) {
        if (sp_jinja_same_text(m->name.s, name.s)) {
            return true;
        }
    }
    return false;
}

static bool mentioned_around(const frame *f, sp_jval name) {
    for (f = f->parent; f != NULL; f = f->parent) {
        if (mentions(f, name)) {
            return true;
        }
    }
    return false;
}

static void mention_name(frame *f, sp_jval name, bool late) {
    mention *m = mentions(f, name) ? NULL : sp_jinja_alloc(f->r, sizeof *m);
    if (m != NULL) {
        *m = (mention){name, late, f->names};
        f->names = m;
    }
}

/* Chains of operators and filters go down a as far as they please; the parser bounds the rest. */
static void load(frame *f, const sp_jnode *node) {
    for (; node != NULL && !f->r->failed; node = node->a) {
        if (node->kind == JN_NAME) {
            mention_name(f, node->value, false);
        }
        load(f, node->b);
        load(f, node->c);
        load(f, node->d);
        for (const sp_jnode *item = node->list; item != NULL; item = item->next) {
            load(f, item);
        }
    }
}

static void store_name(frame *f, sp_jval name, bool branch) {
    mention_name(f, name, !branch && !mentioned_around(f, name));
}

static void store(frame *f, const sp_jnode *target, bool branch) {
    if (target->kind == JN_NSREF) {
        mention_name(f, target->value, false);
    } else if (target->kind == JN_NAME) {
        store_name(f, target->value, branch);
    }
    for (const sp_jnode *item = target->list; item != NULL; item = item->next) {
        store(f, item, branch);
    }
}

/* What the statements of f itself mention, in order; scopes inside are left for later. */
static void scan(frame *f, const sp_jnode *body, bool branch) {
    for (; body != NULL && !f->r->failed; body = body->next) {
        switch (body->kind) {
        case JN_IF:
            for (const sp_jnode *b = body->list; b != NULL; b = b->next) {
                load(f, b->a);
                scan(f, b->body, true);
            }
            break;
        case JN_SET:
            load(f, body->b);
            store(f, body->a, branch);
            break;
        case JN_SET_BLOCK:
            store(f, body->a, branch);
            break;
        case JN_MACRO:
            store_name(f, body->value, branch);
            break;
        case JN_WITH:
            for (const sp_jnode *set = body->list; set != NULL; set = set->next) {
                load(f, set->b);
            }
            break;
        default: /* what they evaluate in this scope */
            load(f, body->kind == JN_FOR ? NULL : body->a);
            load(f, body->b);
        }
    }
}

/* The scopes inside. */
static void descend(const frame *f, sp_jnode *body) {
    for (; body != NULL && !f->r->failed; body = body->next) {
        switch (body->kind) {
        case JN_IF:
            for (sp_jnode *b = body->list; b != NULL; b = b->next) {
                descend(f, b->body);
            }
            break;
        case JN_FOR:
            settle(f->r, f, body->a, &body->body);
            settle(f->r, f, NULL, &body->orelse);
            break;
        case JN_MACRO:
        case JN_CALL_BLOCK:
        case JN_WITH:
            settle(f->r, f, body->list, &body->body);
            break;
        case JN_SET_BLOCK:
        case JN_FILTER_BLOCK:
        case JN_SCOPE:
            settle(f->r, f, NULL, &body->body);
            break;
        default:
            break;
        }
    }
}

/* Names that the scope is entered with: a loop's target, parameters, or what a with sets. */
static void enter(frame *f, const sp_jnode *params) {
    for (; params != NULL; params = params->next) {
        if (params->kind == JN_PARAM) {
            mention_name(f, params->value, false);
            load(f, params->a);
        } else {
            store(f, params->kind == JN_SET ? params->a : params, true);
        }
    }
}

static void declare(frame *f, sp_jnode **body) {
    sp_jnode *node = NULL;
    for (const mention *m = f->names; m != NULL && !f->r->failed; m = m->next) {
        sp_jnode *name = m->late ? sp_jinja_alloc(f->r, sizeof *name) : NULL;
        if (name == NULL) {
            continue;
        }
        *name = (sp_jnode){.kind = JN_NAME, .value = m->name, .next = node ? node->list : NULL};
        if (node == NULL && (node = sp_jinja_alloc(f->r, sizeof *node)) == NULL) {
            return;
        }
        *node = (sp_jnode){.kind = JN_DECLARE, .line = (*body)->line, .list = name, .next = *body};
    }
    *body = node != NULL ? node : *body;
}

static void settle(sp_jinja *r, const frame *parent, sp_jnode *params, sp_jnode **body) {
    frame f = {.r = r, .parent = parent};
    enter(&f, params);
    scan(&f, *body, false);
    descend(&f, *body);
    declare(&f, body);
}

void sp_jinja_settle_names(sp_jinja *r, sp_jnode **body) {
    settle(r, NULL, NULL, body);
}
