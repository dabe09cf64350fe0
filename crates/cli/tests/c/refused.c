/* What devices refuse, and with which errno. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FAILS(call, with)                                                                                   \
    do {                                                                                                    \
        errno = 0;                                                                                          \
        if ((long)(call) != -1 || errno != (with)) {                                                        \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #call, strerror(errno));                         \
            exit(1);                                                                                        \
        }                                                                                                   \
    } while (0)

int main(void)
{
    char bytes[16] = {0};
    FAILS(open("/dev/xdma0_h2c_3", O_RDWR), ENOENT);
    FAILS(open("/dev/xdma0_h2c_4", O_RDWR), ENOENT);
    FAILS(open("/dev/xdma7_user", O_RDWR), ENOENT);
    FAILS(open("/dev/xdma0_bypass", O_RDWR), ENOENT);
    FAILS(open("/dev/xdma0_user", O_RDWR | O_DIRECTORY), ENOTDIR);
    FAILS(open("/dev/xdma0_user", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(access("/dev/xdma0_bypass", F_OK), ENOENT);

    int to = open("/dev/xdma0_h2c_0", O_RDWR), from = open("/dev/xdma0_c2h_0", O_RDWR);
    int user = open("/dev/xdma0_user", O_RDWR), only = open("/dev/xdma0_user", O_RDONLY);
    struct stat status;
    if (to < 0 || from < 0 || user < 0 || fstat(to, &status) || !S_ISCHR(status.st_mode))
        return 1;
    FAILS(read(to, bytes, 4), EINVAL);
    FAILS(write(from, bytes, 4), EINVAL);
    FAILS(write(only, bytes, 4), EBADF);
    FAILS(pwrite(to, bytes, 4, -4), EINVAL);
    FAILS(lseek(to, -1, SEEK_SET), EINVAL);
    void *volatile nowhere = (void *)8;
    FAILS(write(to, nowhere, 4096), EFAULT);
    FAILS(read(from, nowhere, 4096), EFAULT);
    FAILS(pread(user, bytes, 4, 2), EPROTO);
    FAILS(pread(user, bytes, 2, 0), EINVAL);
    FAILS(pread(user, bytes, 4, 0x10000000), EINVAL);
    FAILS(mmap(NULL, 4096, PROT_READ, MAP_SHARED, to, 0), ENODEV);
    FAILS(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, user, 0), EINVAL);
    FAILS(mmap(NULL, 0x1000000, PROT_READ, MAP_SHARED, user, 0), EINVAL);
    FAILS(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, only, 0), EACCES);
    FAILS(ioctl(to, 0x1234, bytes), EINVAL);
    FAILS(ioctl(user, 0x1234, bytes), ENOTTY);
    FAILS(flock(to, LOCK_EX), ENOLCK);
    FAILS(ftruncate(to, 0), EINVAL);
    /* What goes past the library does nothing, and says so. */
    FAILS(syscall(SYS_read, from, bytes, 4), EBADF);
    FAILS(syscall(SYS_write, to, bytes, 4), EPERM);
    /* Of memory that the program has given in part, nothing more is written. */
    if (pread(user, bytes, 16, 0) != 4 || bytes[4])
        return 2;
    struct pollfd one = {.fd = to, .events = POLLIN | POLLOUT};
    if (poll(&one, 1, 0) != 1 || one.revents != (POLLIN | POLLOUT))
        return 3;
    if (write(to, bytes, 0) != 0)
        return 4;
    /* A transfer beyond the card's memory: the engine says so, and goes on afterwards. */
    FAILS(pwrite(to, bytes, 16, 1L << 40), EIO);
    if (pwrite(to, "0123456789abcdef", 16, 64) != 16 || pread(from, bytes, 16, 64) != 16 || memcmp(bytes, "0123456789abcdef", 16))
        return 5;
    /* The position is where it was put, whatever was moved. */
    struct iovec parts[2] = {{"ab", 2}, {"cdef", 4}};
    if (lseek(to, 128, SEEK_SET) != 128 || writev(to, parts, 2) != 6 || lseek(to, 0, SEEK_CUR) != 128)
        return 6;
    if (pread(from, bytes, 6, 128) != 6 || memcmp(bytes, "abcdef", 6))
        return 7;
    int copy = dup(from), other = fcntl(from, F_DUPFD_CLOEXEC, 100);
    close(from);
    if (lseek(copy, 130, SEEK_SET) != 130 || read(other, bytes, 2) != 2 || memcmp(bytes, "cd", 2))
        return 8;
    if ((fcntl(only, F_GETFL) & O_ACCMODE) != O_RDONLY || (fcntl(to, F_GETFL) & O_ACCMODE) != O_RDWR)
        return 9;
    printf("all is refused as it has to be\n");
    return 0;
}
