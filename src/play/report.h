/* The report of a run, from its database. */
#ifndef SP_PLAY_REPORT_H
#define SP_PLAY_REPORT_H

#include "spar/play.h"

/* Write report.json and report.md into the run directory. */
spar_status sp_report_save(const char *run, spar_error *err);

#endif
