/* Reads a channel's device into a file: as people write such a tool.
 * usage: dma_from_device [-d device] [-a address] [-s size] [-c count] [-e] -f file */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *device = "/dev/xdma0_c2h_0", *name = NULL;
    uint64_t address = 0, size = 32, count = 1;
    int option, flags = O_RDWR;
    while ((option = getopt(argc, argv, "d:a:s:c:f:e")) != -1) {
        switch (option) {
        case 'd': device = optarg; break;
        case 'a': address = strtoull(optarg, NULL, 0); break;
        case 's': size = strtoull(optarg, NULL, 0); break;
        case 'c': count = strtoull(optarg, NULL, 0); break;
        case 'f': name = optarg; break;
        case 'e': flags |= O_TRUNC; break; /* end with a packet */
        default: return 2;
        }
    }
    int card = open(device, flags);
    if (card < 0) {
        fprintf(stderr, "unable to open device %s: %s\n", device, strerror(errno));
        return 1;
    }
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC | O_SYNC, 0666);
    char *buffer = NULL;
    if (file < 0 || posix_memalign((void **)&buffer, 4096, size + 4096)) {
        perror(name);
        return 1;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (address && lseek(card, (off_t)address, SEEK_SET) != (off_t)address) {
            perror("seek");
            return 1;
        }
        ssize_t done = read(card, buffer, size);
        if (done < 0) {
            fprintf(stderr, "read of %llu failed: %s\n", (unsigned long long)size, strerror(errno));
            return 1;
        }
        if (write(file, buffer, done) != done) {
            perror(name);
            return 1;
        }
        printf("read %zd bytes\n", done);
    }
    close(card);
    close(file);
    free(buffer);
    return 0;
}
