/* The configuration that `init` reads. Only component.c needs this. */
#ifndef WSGATE_CONFIG_H
#define WSGATE_CONFIG_H

#include "wsgate.h"

wsgate_config *wsgate_config_parse(wsgate_string json);
/* What is wrong, if anything: an empty string for nothing. Frees what was not handed out. */
wsgate_string wsgate_config_finish(wsgate_config *config);

#endif
