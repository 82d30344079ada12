/* endpoint SCRIPT LOG: print a port of the loopback, and serve there until killed (endpoint.h). */
#include <stdbool.h>

#include "endpoint.h"

int main(int argc, char **argv) {
    int port = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: endpoint SCRIPT LOG\n");
        return 2;
    }
    const int listener = endpoint_listen(&port);
    printf("%d\n", port);
    fflush(stdout);
    signal(SIGPIPE, SIG_IGN);
    endpoint_serve(listener, argv[1], argv[2]);
}
