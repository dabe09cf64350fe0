/* Waits for interrupts of the design's own, and says how many came.
 * usage: wait_event device count [poll|select|read|epoll] */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

static int until_ready(int device, const char *how)
{
    if (!strcmp(how, "poll")) {
        struct pollfd one = {.fd = device, .events = POLLIN};
        return poll(&one, 1, 10000) == 1 && (one.revents & POLLIN);
    }
    if (!strcmp(how, "select")) {
        fd_set set;
        struct timeval time = {10, 0};
        FD_ZERO(&set);
        FD_SET(device, &set);
        return select(device + 1, &set, NULL, NULL, &time) == 1;
    }
    if (!strcmp(how, "epoll")) {
        struct epoll_event event = {.events = EPOLLIN};
        int queue = epoll_create1(0);
        int ready = epoll_ctl(queue, EPOLL_CTL_ADD, device, &event) == 0 && epoll_wait(queue, &event, 1, 10000) == 1;
        close(queue);
        return ready;
    }
    return 1;
}

int main(int argc, char **argv)
{
    uint32_t wanted = strtoul(argv[2], NULL, 0), total = 0;
    const char *how = argc > 3 ? argv[3] : "read";
    int device = open(argv[1], O_RDONLY);
    if (device < 0) {
        fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    uint16_t little;
    if (read(device, &little, sizeof little) != -1 || errno != EPROTO) {
        fprintf(stderr, "two bytes were read\n");
        return 1;
    }
    while (total < wanted) {
        uint32_t count = 0;
        if (!until_ready(device, how)) {
            fprintf(stderr, "nothing came by %s\n", how);
            return 1;
        }
        if (read(device, &count, sizeof count) != sizeof count || count == 0) {
            perror("read");
            return 1;
        }
        total += count;
    }
    printf("%u events by %s\n", wanted, how);
    close(device);
    return 0;
}
