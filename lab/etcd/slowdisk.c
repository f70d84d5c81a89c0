/* Run a program whose fsync and fdatasync can be delayed from outside while it runs.
 *
 *     slowdisk CONTROL PROGRAM ARGUMENT...
 *
 * CONTROL is a file of two 32-bit numbers in the machine's byte order: a delay and a jitter, in microseconds. Each sync
 * waits for delay + a uniform share of jitter, and one after another as before a real disk; 0 0 is no delay.
 *
 * etcd is written in Go, which makes its system calls itself, so a library put before libc (LD_PRELOAD) never sees
 * them. The kernel does: a seccomp filter hands every sync to a helper process, which waits and then lets it go on.
 *
 * The program takes this process's id, so signals to it reach the program. It is killed with the process that started
 * it (also by kill -9), and the helper ends with the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "slowdisk: %s: %s\n", what, strerror(errno));
    exit(111);
}

static void wait_us(uint64_t us)
{
    struct timespec left = {.tv_sec = us / 1000000, .tv_nsec = (us % 1000000) * 1000};
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

static int install_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fdatasync, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fsync, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        die("no_new_privs");
    int listener = syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0)
        die("seccomp user notification (Linux 5.5 or newer, and a container that allows it, are needed)");
    return listener;
}

/* Answer notifications until nobody is left who could send one. */
static void serve(int listener, volatile uint32_t *control)
{
    unsigned seed = (unsigned)getpid();
    for (;;) {
        struct pollfd ready = {.fd = listener, .events = POLLIN};
        if (poll(&ready, 1, -1) < 0) {
            if (errno == EINTR)
                continue;
            return;
        }
        if (!(ready.revents & POLLIN))
            return;
        struct seccomp_notif request;
        memset(&request, 0, sizeof request);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request))
            continue; /* the caller was killed, or interrupted and will ask again */
        uint64_t us = control[0] + (uint64_t)(control[1] * (rand_r(&seed) / (RAND_MAX + 1.0)));
        if (us)
            wait_us(us);
        struct seccomp_notif_resp answer = {.id = request.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

static void send_listener(int socket, int listener)
{
    char byte = 0, space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &listener, sizeof(int));
    if (sendmsg(socket, &message, 0) != 1)
        die("hand over the listener");
}

static int receive_listener(int socket)
{
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    if (recvmsg(socket, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
        exit(0); /* the program could not be started */
    int listener;
    memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return listener;
}

int main(int count, char **arguments)
{
    if (count < 3) {
        fprintf(stderr, "usage: slowdisk CONTROL PROGRAM ARGUMENT...\n");
        return 2;
    }
    pid_t starter = getppid();
    int file = open(arguments[1], O_RDONLY | O_CLOEXEC);
    if (file < 0)
        die(arguments[1]);
    volatile uint32_t *control = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    if (control == MAP_FAILED)
        die(arguments[1]);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        die("socketpair");
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (!child) {
        /* Twice, so that the program has no child it does not know of. */
        if (fork())
            _exit(0);
        setsid();
        close(pair[0]);
        for (int fd = 0; fd < 3; fd++)
            close(fd); /* a pipe of the program's must end with the program */
        serve(receive_listener(pair[1]), control);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(pair[1]);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
        die("death signal");
    if (getppid() != starter)
        return 111; /* it died before it could be asked to tell */
    int listener = install_filter();
    send_listener(pair[0], listener);
    close(listener);
    close(pair[0]);
    execvp(arguments[2], arguments + 2);
    die(arguments[2]);
}
