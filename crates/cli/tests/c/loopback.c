/* Two processes: one sends packets into a stream, the other receives them.
 * usage: loopback to from packets bytes [room] */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fill(unsigned char *buffer, size_t size, unsigned packet)
{
    for (size_t i = 0; i < size; i++)
        buffer[i] = (unsigned char)(i * 31 + packet * 17 + (i >> 8));
}

int main(int argc, char **argv)
{
    unsigned packets = strtoul(argv[3], NULL, 0);
    size_t bytes = strtoul(argv[4], NULL, 0), room = argc > 5 ? strtoul(argv[5], NULL, 0) : bytes;
    unsigned char *buffer = malloc(room > bytes ? room : bytes), *wanted = malloc(bytes);
    pid_t sender = fork();
    if (sender == 0) {
        int device = open(argv[1], O_WRONLY);
        if (device < 0) {
            perror(argv[1]);
            _exit(1);
        }
        for (unsigned packet = 0; packet < packets; packet++) {
            fill(buffer, bytes, packet);
            if (write(device, buffer, bytes) != (ssize_t)bytes) {
                perror("write");
                _exit(1);
            }
        }
        _exit(close(device) != 0);
    }
    int device = open(argv[2], O_RDONLY);
    if (device < 0) {
        perror(argv[2]);
        return 1;
    }
    if (open(argv[2], O_RDONLY) != -1 || errno != EBUSY) {
        fprintf(stderr, "a stream was opened twice\n");
        return 1;
    }
    for (unsigned packet = 0; packet < packets; packet++) {
        fill(wanted, bytes, packet);
        for (size_t done = 0; done < bytes;) {
            ssize_t came = read(device, buffer, room);
            if (came <= 0) {
                fprintf(stderr, "packet %u at %zu: %zd: %s\n", packet, done, came, strerror(errno));
                return 1;
            }
            if (done + came > bytes || memcmp(buffer, wanted + done, came)) {
                fprintf(stderr, "packet %u is wrong at %zu (%zd bytes)\n", packet, done, came);
                return 1;
            }
            done += came;
        }
    }
    close(device);
    /* Free for others, at once. */
    device = open(argv[2], O_RDONLY);
    if (device < 0) {
        perror("again");
        return 1;
    }
    close(device);
    int status = 0;
    waitpid(sender, &status, 0);
    if (status == 0)
        printf("%u packets of %zu bytes\n", packets, bytes);
    return status != 0;
}
