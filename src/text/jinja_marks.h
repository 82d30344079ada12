/* Which parts of what a render writes generation blocks wrote.
 *
 * A block that writes to the render's own text is a span of it. One within a macro, or another text
 * that is captured, writes to a value: its bytes are remembered by where they lie in the arena, and
 * found again when they are written out, whole or as a part (stripped, sliced, split), or copied
 * into a longer text by + and ~. What another operation makes of them is not known: a block that
 * was captured and never written out is an error of the render.
 */
#ifndef SP_TEXT_JINJA_MARKS_H
#define SP_TEXT_JINJA_MARKS_H

#include "text/jinja_value.h"

/* A part [begin, end) of a text being written. written: of a captured block, whether it reached the
 * render's text; NULL: it is there. */
typedef struct sp_jmark {
    size_t begin, end;
    bool *written; /* borrowed, of the render's flags */
} sp_jmark;

/* Those of one text, the render's or a capture's. */
struct sp_jmarks {
    sp_jmark *items;
    size_t n, capacity;
    bool open;                /* within a block: one within it is a part of it */
    struct sp_jmarks *around; /* of the text around the capture; NULL: the render's own */
};

/* A captured block's bytes as a part of a value. */
typedef struct sp_jtrace {
    const char *begin, *end;
    bool *written;
} sp_jtrace;

/* Of a whole render; all in its arena. */
struct sp_jtraces {
    sp_jtrace *items;
    size_t n, capacity;
    bool **flags; /* one a captured block */
    size_t n_flags, flag_capacity;
};

/* A capture begins and ends; between them text goes to `text`, which is released. The end gives the
 * value, or failure. */
typedef struct sp_jcapture {
    sp_str text, *outer;
    sp_jmarks marks, *outer_marks;
} sp_jcapture;
void sp_jinja_capture_begin(sp_jinja *r, sp_jcapture *c);
sp_jval sp_jinja_capture_end(sp_jinja *r, sp_jcapture *c, bool good);

/* A block writes from here on; it ends. */
bool sp_jinja_mark_begin(sp_jinja *r, size_t *begin);
bool sp_jinja_mark_end(sp_jinja *r, size_t begin);
/* Before n bytes are written out; after they were copied into another value. */
bool sp_jinja_mark_written(sp_jinja *r, const char *s, size_t n);
bool sp_jinja_mark_copied(sp_jinja *r, const char *from, size_t n, const char *to);
/* At the end: whether all captured blocks were written out; notes the error. */
bool sp_jinja_marks_settled(sp_jinja *r);

#endif
