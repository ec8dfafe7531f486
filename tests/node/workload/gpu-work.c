/* What a workload pod runs where there is no GPU: a process that says how much of a card it holds.
 *
 *   gpu-work MIB [processes N] [seconds S] [status S] [stubborn]
 *
 * MIB        framebuffer that each process holds
 * processes  so many processes (contexts) in all; 1
 * seconds    ends by itself after so long; else it waits for SIGTERM
 * status     its exit status when it ends by itself; 0
 * stubborn   does not end on SIGTERM
 *
 * The fake driver lists it: ../suite/card.py looks for processes of this name. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(int count, char **words) {
    int processes = 1, status = 0, stubborn = 0;
    double seconds = 0;
    if (count < 2 || atoi(words[1]) <= 0) {
        fprintf(stderr, "gpu-work MIB [processes N] [seconds S] [status S] [stubborn]\n");
        return 2;
    }
    for (int i = 2; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        if (!strcmp(words[i], "stubborn")) stubborn = 1;
        else if (!strcmp(words[i], "processes")) processes = atoi(value), i++;
        else if (!strcmp(words[i], "seconds")) seconds = atof(value), i++;
        else if (!strcmp(words[i], "status")) status = atoi(value), i++;
        else return fprintf(stderr, "gpu-work: unknown word %s\n", words[i]), 2;
    }
    /* The first process of a container must say so to be ended by a signal. */
    signal(SIGTERM, stubborn ? SIG_IGN : end);
    for (int i = 1; i < processes; i++)
        if (fork() == 0) break;
    if (seconds > 0) {
        usleep((useconds_t)(seconds * 1e6));
        return status;
    }
    for (;;) pause();
}
