/* Many transfers on a channel that others use as well, each looked at.
 * usage: together number rounds bytes [stay: have the devices open until a signal comes] */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    unsigned number = atoi(argv[1]), rounds = atoi(argv[2]);
    size_t bytes = strtoul(argv[3], NULL, 0);
    off_t place = (off_t)number * 0x1000000 + 3;
    char *sent = malloc(bytes), *came = malloc(bytes);
    int to = open("/dev/xdma0_h2c_0", O_WRONLY), from = open("/dev/xdma0_c2h_0", O_RDONLY);
    if (to < 0 || from < 0)
        return 1;
    for (unsigned round = 0; round < rounds; round++) {
        memset(sent, (char)(round * 7 + number), bytes);
        memset(came, 0, bytes);
        if (pwrite(to, sent, bytes, place) != (ssize_t)bytes || pread(from, came, bytes, place) != (ssize_t)bytes) {
            perror("transfer");
            return 1;
        }
        if (memcmp(sent, came, bytes)) {
            fprintf(stderr, "round %u differs\n", round);
            return 1;
        }
    }
    printf("program %u: %u rounds right\n", number, rounds);
    fflush(stdout);
    if (argc > 4)
        pause();
    return 0;
}
