/* Disk faults for one process: preloaded (LD_PRELOAD), it stands between the process and the C library.
 *
 * STONECHAT_FAULTS names a folder of triggers, STONECHAT_FAULTS_BELOW the folder whose files are concerned. A trigger is a
 * file named after the fault. While it exists, the fault strikes at files whose path contains the trigger's content:
 *
 *   room         statvfs says that no block is free
 *   write        writes fail with ENOSPC
 *   sync         fsync and fdatasync fail with EIO
 *   read-only    no file can be opened to be written and no folder be made: EROFS
 *   hold-write   writes wait until the trigger is gone
 *   hold-sync    fsync and fdatasync wait until the trigger is gone
 *
 * Each strike adds one byte to the file "<fault>.struck" beside the trigger, so that a test can tell that it came.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define HOLD_LOOK_MICROS 5000

/* The functions below stand in for write and its kind: what they do themselves must not come back to them. */
static ssize_t write_through(int fd, const void *bytes, size_t count) { return syscall(SYS_write, fd, bytes, count); }

/* Whether the fault strikes at this path now. */
static int strikes_at(const char *fault, const char *path)
{
    const char *folder = getenv("STONECHAT_FAULTS"), *below = getenv("STONECHAT_FAULTS_BELOW");
    char trigger[PATH_MAX], concerned[256];
    if (folder == NULL || below == NULL || strncmp(path, below, strlen(below)) != 0)
        return 0;
    snprintf(trigger, sizeof trigger, "%s/%s", folder, fault);
    int fd = open(trigger, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, concerned, sizeof concerned - 1);
    close(fd);
    concerned[length > 0 ? length : 0] = '\0';
    return strstr(path, concerned) != NULL;
}

static int strikes(const char *fault, int fd)
{
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    int struck = strikes_at(fault, path);
    errno = before;
    return struck;
}

static void note(const char *fault)
{
    char record[PATH_MAX];
    int before = errno;
    snprintf(record, sizeof record, "%s/%s.struck", getenv("STONECHAT_FAULTS"), fault);
    int fd = open(record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (write_through(fd, "x", 1) < 0)
            perror("note of a fault");
        close(fd);
    }
    errno = before;
}

/* Waits while the fault strikes. */
static void hold(const char *fault, int fd)
{
    if (!strikes(fault, fd))
        return;
    note(fault);
    while (strikes(fault, fd))
        usleep(HOLD_LOOK_MICROS);
}

/* True, with errno set, when the fault strikes. */
static int fails(const char *fault, int fd, int error)
{
    if (!strikes(fault, fd))
        return 0;
    note(fault);
    errno = error;
    return 1;
}

static int write_fails(int fd)
{
    hold("hold-write", fd);
    return fails("write", fd, ENOSPC);
}

static int sync_fails(int fd)
{
    hold("hold-sync", fd);
    return fails("sync", fd, EIO);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define STAND_IN(type, name, guard, parameters, arguments)                                                             \
    type name parameters                                                                                               \
    {                                                                                                                  \
        static __typeof__(&name) real;                                                                                 \
        if (real == NULL)                                                                                              \
            real = REAL(name);                                                                                         \
        return guard(fd) ? -1 : real arguments;                                                                        \
    }

STAND_IN(ssize_t, write, write_fails, (int fd, const void *bytes, size_t count), (fd, bytes, count))
STAND_IN(ssize_t, pwrite, write_fails, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at))
STAND_IN(ssize_t, pwrite64, write_fails, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
STAND_IN(ssize_t, writev, write_fails, (int fd, const struct iovec *parts, int count), (fd, parts, count))
STAND_IN(ssize_t, pwritev, write_fails, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
STAND_IN(ssize_t, pwritev64, write_fails, (int fd, const struct iovec *parts, int count, off64_t at),
         (fd, parts, count, at))
STAND_IN(int, fsync, sync_fails, (int fd), (fd))
STAND_IN(int, fdatasync, sync_fails, (int fd), (fd))

static int read_only_at(const char *path)
{
    if (!strikes_at("read-only", path))
        return 0;
    note("read-only");
    errno = EROFS;
    return 1;
}

/* What opens a file; those that only read pass. */
#define OPENS(name, parameters, arguments)                                                                             \
    int name parameters                                                                                                \
    {                                                                                                                  \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                           \
            va_list more;                                                                                              \
            va_start(more, flags);                                                                                     \
            mode = va_arg(more, mode_t);                                                                               \
            va_end(more);                                                                                              \
        }                                                                                                              \
        int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));                                 \
        return writes && read_only_at(path) ? -1 : REAL(name) arguments;                                               \
    }

OPENS(open, (const char *path, int flags, ...), (path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENS(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPENS(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))

/* One that is there is found to be there, also where none can be made. */
int mkdir(const char *path, mode_t mode)
{
    return access(path, F_OK) != 0 && read_only_at(path) ? -1 : REAL(mkdir)(path, mode);
}

static int no_room_at(const char *path)
{
    if (!strikes_at("room", path))
        return 0;
    note("room");
    return 1;
}

int statvfs(const char *path, struct statvfs *disk)
{
    int failed = REAL(statvfs)(path, disk);
    if (failed == 0 && no_room_at(path))
        disk->f_bfree = disk->f_bavail = 0;
    return failed;
}

int statvfs64(const char *path, struct statvfs64 *disk)
{
    int failed = REAL(statvfs64)(path, disk);
    if (failed == 0 && no_room_at(path))
        disk->f_bfree = disk->f_bavail = 0;
    return failed;
}
