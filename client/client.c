#include "include/poolrank/client.h"
