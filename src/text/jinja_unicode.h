/* What Python's str asks of Unicode, by utf8proc: classes, case, and walking UTF-8. */
#ifndef SP_TEXT_JINJA_UNICODE_H
#define SP_TEXT_JINJA_UNICODE_H

#include "text/jinja_value.h"

bool sp_jinja_is_space(unsigned c); /* str.isspace, and what strip() and \s take */
bool sp_jinja_is_alpha(unsigned c);
bool sp_jinja_is_decimal(unsigned c); /* category Nd */
bool sp_jinja_is_digit(unsigned c);   /* Nd and the superscripts */
bool sp_jinja_is_numeric(unsigned c); /* N* */
bool sp_jinja_is_upper(unsigned c);
bool sp_jinja_is_lower(unsigned c);
bool sp_jinja_is_printable(unsigned c);
void sp_jinja_put_upper(sp_str *out, unsigned c);
void sp_jinja_put_lower(sp_str *out, unsigned c);
void sp_jinja_put_title(sp_str *out, unsigned c);
void sp_jinja_put_folded(sp_str *out, unsigned c);

/* The code point that ends at s + end (end >= 1); *start is its first byte. */
unsigned sp_jinja_before(const char *s, size_t end, size_t *start);
/* Trim white space from both ends of s[*from..*to). */
void sp_jinja_trim(const char *s, size_t *from, size_t *to, bool left, bool right);

#endif
