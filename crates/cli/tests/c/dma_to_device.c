/* Writes a file, or a pattern, to a channel's device: as people write such a tool.
 * usage: dma_to_device [-d device] [-a address] [-s size] [-c count] [-f file] */
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
    const char *device = "/dev/xdma0_h2c_0", *name = NULL;
    uint64_t address = 0, size = 32, count = 1;
    int option;
    while ((option = getopt(argc, argv, "d:a:s:c:f:")) != -1) {
        switch (option) {
        case 'd': device = optarg; break;
        case 'a': address = strtoull(optarg, NULL, 0); break;
        case 's': size = strtoull(optarg, NULL, 0); break;
        case 'c': count = strtoull(optarg, NULL, 0); break;
        case 'f': name = optarg; break;
        default: return 2;
        }
    }
    int card = open(device, O_RDWR);
    if (card < 0) {
        fprintf(stderr, "unable to open device %s: %s\n", device, strerror(errno));
        return 1;
    }
    char *buffer = NULL;
    if (posix_memalign((void **)&buffer, 4096, size + 4096))
        return 1;
    for (uint64_t i = 0; i < size; i++)
        buffer[i] = (char)(i * 7 + (i >> 8));
    if (name) {
        int file = open(name, O_RDONLY);
        if (file < 0 || read(file, buffer, size) != (ssize_t)size) {
            perror(name);
            return 1;
        }
        close(file);
    }
    for (uint64_t i = 0; i < count; i++) {
        /* The driver does not move the position: nothing is to be done for address 0. */
        if (address && lseek(card, (off_t)address, SEEK_SET) != (off_t)address) {
            perror("seek");
            return 1;
        }
        ssize_t done = write(card, buffer, size);
        if (done != (ssize_t)size) {
            fprintf(stderr, "write of %llu returned %zd: %s\n", (unsigned long long)size, done, strerror(errno));
            return 1;
        }
    }
    close(card);
    free(buffer);
    printf("wrote %llu bytes to %s at %#llx\n", (unsigned long long)size, device, (unsigned long long)address);
    return 0;
}
