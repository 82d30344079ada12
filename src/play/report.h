/* The report of a run, from its database. */
#ifndef SP_PLAY_REPORT_H
#define SP_PLAY_REPORT_H

#include "spar/play.h"

/* Write report.json and report.md into the run directory. */
spar_status sp_report_save(const char *run, spar_error *err);

/* A report of either kind as report.json and, by its writer, as report.md. */
typedef void (*sp_report_writer)(const struct json_t *report, spar_report_format format, FILE *out);
spar_status sp_report_files(const struct json_t *report, sp_report_writer write, const char *dir,
                            spar_error *err);

/* Code points of UTF-8. */
double sp_report_characters(const char *text);

#endif
