#ifndef POOLRANK_CLIENT_H
#define POOLRANK_CLIENT_H
#include "types.h"
typedef struct pr_client pr_client;
#endif
