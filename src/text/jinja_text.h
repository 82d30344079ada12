/* What filters and methods of strings share. Arguments are strings unless said; results keep the
 * markup flag of s. */
#ifndef SP_TEXT_JINJA_TEXT_H
#define SP_TEXT_JINJA_TEXT_H

#include "text/jinja_value.h"

/* chars: a string of code points to take off, or none (absent) for white space. */
sp_jval sp_jinja_strip(sp_jinja *r, sp_jval s, sp_jval chars, bool left, bool right);
/* limit < 0: no limit. separator: a string, or none for runs of white space. */
sp_jval sp_jinja_split(sp_jinja *r, sp_jval s, sp_jval separator, int64_t limit, bool from_right);
sp_jval sp_jinja_splitlines(sp_jinja *r, sp_jval s, bool keep_ends);
sp_jval sp_jinja_replace(sp_jinja *r, sp_jval s, sp_jval old, sp_jval new, int64_t limit);
sp_jval sp_jinja_upper(sp_jinja *r, sp_jval s);
sp_jval sp_jinja_lower(sp_jinja *r, sp_jval s);
sp_jval sp_jinja_casefold(sp_jinja *r, sp_jval s);
sp_jval sp_jinja_capitalize(sp_jinja *r, sp_jval s);
/* Pad to width code points; where: -1 text on the left, 0 in the middle, 1 on the right. */
sp_jval sp_jinja_pad(sp_jinja *r, sp_jval s, int64_t width, char fill, int where);
sp_jval sp_jinja_join(sp_jinja *r, sp_jval separator, sp_jval items, bool strict);
/* "...{}...".format(args) (jinja_strformat.c). */
struct sp_jargs;
sp_jval sp_jinja_str_format(sp_jinja *r, sp_jval s, const struct sp_jargs *args);

#endif
