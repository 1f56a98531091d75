/* Faults of a disk, for a process that is started with this library preloaded.
 *
 * The tests build it with the system's C compiler, because the workspace forbids `unsafe`. It stands between the
 * process and the C library: it makes chosen calls fail, and writes down what was done to the files of one directory, so
 * that a power cut can be played: what was written and not synced is lost, or not, in any combination.
 *
 * FACTUM_FAULTS      rules, separated by ';', each `<end of the file's name>:<call>:<first>:<fault>:<count>`
 *                      call   write, sync, truncate, or bytes (as write, but <first> is a number of bytes)
 *                      first  from which call on, counted from 1; or the byte at which the disk is full
 *                      fault  EIO, ENOSPC, SHORT (half is written, without an error), SKIP (nothing is done, and that
 *                             is called success)
 *                      count  how many calls; 0: all that follow
 * FACTUM_FAULTS_WHILE  a file: rules hold as long as it exists; without it, always
 * FACTUM_FAULTS_HOLD   `<end of the file's name>:<another file>`: syncs of the first wait as long as the second exists
 * FACTUM_FAULTS_LOG    a file: one line for each sync and each fault, `<call> <name> <ok or fault>`
 * FACTUM_JOURNAL       a file: all that was done; see `journal.rs` for its layout
 * FACTUM_JOURNAL_OF    the directory whose files are written down
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum call { WRITE, SYNC, TRUNCATE, BYTES };
enum fault { NONE, FAIL_EIO, FAIL_ENOSPC, SHORT, SKIP };

struct rule {
  char name[64];
  enum call call;
  enum fault fault;
  uint64_t first, count, seen;
};

#define RULES_MAX 8
static struct rule rules[RULES_MAX];
static int rules_count;
static const char *only_while, *journal_of, *held_while;
static char held[64];
static int log_fd = -1, journal_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_unlink)(const char *);

static void read_rule(char *text) {
  struct rule *rule = &rules[rules_count];
  char *save = NULL, *name = strtok_r(text, ":", &save), *call = strtok_r(NULL, ":", &save);
  char *first = strtok_r(NULL, ":", &save), *fault = strtok_r(NULL, ":", &save);
  char *count = strtok_r(NULL, ":", &save);
  if (!count || rules_count == RULES_MAX) {
    fprintf(stderr, "faults: a rule can't be read\n");
    abort();
  }
  snprintf(rule->name, sizeof rule->name, "%s", name);
  rule->call = !strcmp(call, "sync") ? SYNC : !strcmp(call, "truncate") ? TRUNCATE : !strcmp(call, "bytes") ? BYTES : WRITE;
  rule->fault = !strcmp(fault, "EIO") ? FAIL_EIO : !strcmp(fault, "ENOSPC") ? FAIL_ENOSPC : !strcmp(fault, "SHORT") ? SHORT : SKIP;
  rule->first = strtoull(first, NULL, 10);
  rule->count = strtoull(count, NULL, 10);
  rules_count++;
}

static void start(void) {
  real_write = dlsym(RTLD_NEXT, "write");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_open = dlsym(RTLD_NEXT, "open64");
  real_openat = dlsym(RTLD_NEXT, "openat64");
  real_unlink = dlsym(RTLD_NEXT, "unlink");
  only_while = getenv("FACTUM_FAULTS_WHILE");
  journal_of = getenv("FACTUM_JOURNAL_OF");
  if (getenv("FACTUM_FAULTS_HOLD")) {
    char *text = strdup(getenv("FACTUM_FAULTS_HOLD")), *save = NULL;
    snprintf(held, sizeof held, "%s", strtok_r(text, ":", &save));
    held_while = strtok_r(NULL, ":", &save);
  }
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  if (getenv("FACTUM_FAULTS_LOG")) log_fd = real_open(getenv("FACTUM_FAULTS_LOG"), flags, 0644);
  if (getenv("FACTUM_JOURNAL")) journal_fd = real_open(getenv("FACTUM_JOURNAL"), flags, 0644);
  if (getenv("FACTUM_FAULTS")) {
    char *text = strdup(getenv("FACTUM_FAULTS")), *save = NULL;
    for (char *rule = strtok_r(text, ";", &save); rule; rule = strtok_r(NULL, ";", &save)) {
      char *copy = strdup(rule);
      read_rule(copy);
      free(copy);
    }
    free(text);
  }
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length <= 0 || path[0] != '/') return 0;
  path[length] = 0;
  return 1;
}

static const char *last(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static int ends_with(const char *path, const char *end) {
  size_t length = strlen(path), of = strlen(end);
  return length >= of && !strcmp(path + length - of, end);
}

static void note(const char *call, const char *path, const char *what) {
  char line[PATH_MAX + 64];
  if (log_fd < 0) return;
  int length = snprintf(line, sizeof line, "%s %s %s\n", call, last(path), what);
  syscall(SYS_write, log_fd, line, length);
}

/* The fault of this call, and for BYTES how many bytes there is still room for. Under the lock. */
static enum fault fault_of(const char *path, enum call call, size_t length, size_t *room) {
  for (int i = 0; i < rules_count; i++) {
    struct rule *rule = &rules[i];
    if (!ends_with(path, rule->name)) continue;
    if (rule->call != call && !(rule->call == BYTES && call == WRITE)) continue;
    if (only_while && access(only_while, F_OK) != 0) continue;
    if (rule->call == BYTES) {
      *room = rule->first > rule->seen ? rule->first - rule->seen : 0;
      if (*room >= length) {
        rule->seen += length;
        continue;
      }
      rule->seen += *room;
      return rule->fault;
    }
    rule->seen++;
    if (rule->seen >= rule->first && (rule->count == 0 || rule->seen < rule->first + rule->count)) return rule->fault;
  }
  return NONE;
}

/* One entry: kind, length of the path, offset, length of the data; then path and data. Under the lock. */
static void put(char kind, const char *path, uint64_t offset, const void *data, uint64_t length) {
  if (journal_fd < 0 || !journal_of || strncmp(path, journal_of, strlen(journal_of))) return;
  unsigned char head[21];
  uint32_t of = strlen(path);
  head[0] = kind;
  memcpy(head + 1, &of, 4);
  memcpy(head + 5, &offset, 8);
  memcpy(head + 13, &length, 8);
  struct iovec parts[3] = {{head, 21}, {(void *)path, of}, {(void *)data, length}};
  syscall(SYS_writev, journal_fd, parts, 3);
}

static ssize_t write_file(int fd, const void *data, size_t length, off_t offset, int seeks) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) return seeks ? real_write(fd, data, length) : real_pwrite(fd, data, length, offset);
  pthread_mutex_lock(&lock);
  size_t room = 0;
  enum fault fault = fault_of(path, WRITE, length, &room);
  ssize_t done = -1;
  int error = 0;
  if (fault == SHORT) length = length > 1 ? length / 2 : length;
  if (fault == FAIL_ENOSPC && room > 0) length = room;
  if (fault == FAIL_EIO) error = EIO;
  else if (fault == FAIL_ENOSPC && room == 0) error = ENOSPC;
  else if (fault == SKIP) done = length;
  else {
    off_t at = seeks ? lseek(fd, 0, SEEK_CUR) : offset;
    done = seeks ? real_write(fd, data, length) : real_pwrite(fd, data, length, offset);
    error = errno;
    if (done > 0) put('w', path, at, data, done);
  }
  if (fault != NONE) note("write", path, fault == FAIL_EIO ? "EIO" : fault == FAIL_ENOSPC ? "ENOSPC" : fault == SHORT ? "SHORT" : "SKIP");
  pthread_mutex_unlock(&lock);
  if (done < 0) errno = error;
  return done;
}

static int sync_file(int fd, int (*real)(int)) {
  char path[PATH_MAX];
  struct stat stat;
  if (!path_of(fd, path)) return real(fd);
  if (held_while && ends_with(path, held) && access(held_while, F_OK) == 0) {
    note("sync", path, "held");
    while (access(held_while, F_OK) == 0) usleep(1000);
  }
  pthread_mutex_lock(&lock);
  size_t room;
  enum fault fault = fault_of(path, SYNC, 0, &room);
  int error = fault == FAIL_EIO ? EIO : fault == FAIL_ENOSPC ? ENOSPC : 0, done = error ? -1 : 0;
  if (fault == NONE) {
    /* The disk of the tests need not be waited for: what is synced is told by the journal. */
    done = journal_fd < 0 ? real(fd) : 0;
    error = errno;
    if (done == 0) put(fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode) ? 'd' : 's', path, 0, NULL, 0);
  }
  note("sync", path, fault == NONE ? "ok" : fault == FAIL_EIO ? "EIO" : fault == FAIL_ENOSPC ? "ENOSPC" : "SKIP");
  pthread_mutex_unlock(&lock);
  if (done < 0) errno = error;
  return done;
}

ssize_t write(int fd, const void *data, size_t length) {
  pthread_once(&once, start);
  return write_file(fd, data, length, 0, 1);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
  pthread_once(&once, start);
  return write_file(fd, data, length, offset, 0);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  pthread_once(&once, start);
  return write_file(fd, data, length, offset, 0);
}

int fsync(int fd) {
  pthread_once(&once, start);
  return sync_file(fd, real_fsync);
}

int fdatasync(int fd) {
  pthread_once(&once, start);
  return sync_file(fd, real_fdatasync);
}

int ftruncate64(int fd, off_t length) {
  char path[PATH_MAX];
  pthread_once(&once, start);
  if (!path_of(fd, path)) return real_ftruncate(fd, length);
  pthread_mutex_lock(&lock);
  size_t room;
  enum fault fault = fault_of(path, TRUNCATE, 0, &room);
  int done = -1, error = fault == FAIL_ENOSPC ? ENOSPC : EIO;
  if (fault == NONE) {
    done = real_ftruncate(fd, length);
    error = errno;
    if (done == 0) put('t', path, length, NULL, 0);
  } else {
    note("truncate", path, fault == FAIL_ENOSPC ? "ENOSPC" : "EIO");
  }
  pthread_mutex_unlock(&lock);
  if (done < 0) errno = error;
  return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int open_file(int at, const char *path, int flags, mode_t mode) {
  pthread_once(&once, start);
  if (journal_fd < 0 || !(flags & (O_CREAT | O_TRUNC)) || path[0] != '/') return real_openat(at, path, flags, mode);
  pthread_mutex_lock(&lock);
  int is_new = access(path, F_OK) != 0;
  int fd = real_openat(at, path, flags, mode);
  int error = errno;
  if (fd >= 0 && is_new) put('c', path, 0, NULL, 0);
  else if (fd >= 0 && (flags & O_TRUNC)) put('t', path, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}

#define MODE(flags, mode)                 \
  mode_t mode = 0;                        \
  if ((flags) & (O_CREAT | O_TMPFILE)) {  \
    va_list more;                         \
    va_start(more, flags);                \
    mode = va_arg(more, mode_t);          \
    va_end(more);                         \
  }

int open(const char *path, int flags, ...) { MODE(flags, mode) return open_file(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return open_file(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_file(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_file(at, path, flags, mode); }

int unlink(const char *path) {
  pthread_once(&once, start);
  pthread_mutex_lock(&lock);
  int done = real_unlink(path), error = errno;
  if (done == 0) put('u', path, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}
