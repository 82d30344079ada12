/* Version, build and processor. */
#ifndef SPAR_VERSION_H
#define SPAR_VERSION_H

#include <stdio.h>

#include "spar/status.h"

SPAR_API const char *spar_version(void); /* "0.1.0" */
/* Version, build options, library versions and processor features, for people. */
SPAR_API void spar_version_write(FILE *out);

#endif
