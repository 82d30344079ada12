/* The filters over sequences (jinja_sequences.c), named by the one table in jinja_filters.c. */
#ifndef SP_TEXT_JINJA_FILTERS_H
#define SP_TEXT_JINJA_FILTERS_H

#include "text/jinja_eval.h"

/* X(name, parameters) */
#define SP_JINJA_SEQUENCE_FILTERS(X)                                                               \
    X(first, "")                                                                                   \
    X(last, "")                                                                                    \
    X(list, "")                                                                                    \
    X(items, "")                                                                                   \
    X(reverse, "")                                                                                 \
    X(map, NULL)                                                                                   \
    X(select, NULL)                                                                                \
    X(reject, NULL)                                                                                \
    X(selectattr, NULL)                                                                            \
    X(rejectattr, NULL)                                                                            \
    X(sort, "?reverse,?case_sensitive,?attribute")                                                 \
    X(unique, "?case_sensitive,?attribute")                                                        \
    X(min, "?case_sensitive,?attribute")                                                           \
    X(max, "?case_sensitive,?attribute")                                                           \
    X(sum, "?attribute,?start")                                                                    \
    X(join, "?d,?attribute")                                                                       \
    X(batch, "linecount,?fill_with")                                                               \
    X(slice, "slices,?fill_with")                                                                  \
    X(dictsort, "?case_sensitive,?by,?reverse")                                                    \
    X(groupby, "attribute,?default,?case_sensitive")

#define X(name, params)                                                                            \
    sp_jval sp_jinja_filter_##name(sp_jinja *r, sp_jval v, const sp_jval *a, const sp_jargs *args);
SP_JINJA_SEQUENCE_FILTERS(X)
#undef X

#endif
