/* Faults of a model and of training data that no error shows: what trains or samples, and goes
 * wrong. */
#ifndef SPAR_DOCTOR_H
#define SPAR_DOCTOR_H

#include <stdint.h>

#include "spar/log.h"
#include "spar/status.h"

typedef struct spar_doctor_options {
    const char *model, *data;  /* paths; data NULL: the model alone */
    int64_t max_length;        /* longest prompt and response together; 0: the model's context */
    const char *template_path; /* chat template in place of the model's own; NULL: its own */
    const spar_sink *sink;     /* may be NULL */
} spar_doctor_options;

/* *report (new reference): {"model", "data", "rows", "findings", "notes"}. A finding is {"check",
 * "found", "mend"}, and of data {"rows", "share"} too: how many rows, and of all. A note is a text
 * on what is no fault of this program. Fails only where a file cannot be read, or the model not
 * loaded for a reason that is none of the findings. */
struct json_t;
SPAR_API spar_status spar_doctor(struct json_t **report, const spar_doctor_options *options,
                                 spar_error *err);

#endif
