/* floor.c: the least a sandbox launch can cost on this kernel.
 * One process: clone with the given namespaces, overlay (or bind) root, /proc,
 * pivot_root, exec. No cgroup, no seccomp, no landlock, no config, no image store.
 *   floor ROOTFS MODE CMD...   MODE: letters of m p u i n c U(ser) o(verlay)
 * With U the parent writes one line of id map (a range of its own as root) before the child goes on.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <fcntl.h>
static void put(long pid, const char *f, const char *t) {
  char p[64]; snprintf(p, sizeof p, "/proc/%ld/%s", pid, f);
  int d = open(p, O_WRONLY); if (d < 0 || write(d, t, strlen(t)) < 0) { perror(p); _exit(125); } close(d);
}
#define die(s) do { perror(s); _exit(125); } while (0)
int main(int argc, char **argv) {
  if (argc < 4) return 2;
  int fl = 0, ov = 0;
  for (char *p = argv[2]; *p; p++) switch (*p) {
    case 'm': fl |= CLONE_NEWNS; break; case 'p': fl |= CLONE_NEWPID; break;
    case 'u': fl |= CLONE_NEWUTS; break; case 'i': fl |= CLONE_NEWIPC; break;
    case 'n': fl |= CLONE_NEWNET; break; case 'c': fl |= CLONE_NEWCGROUP; break;
    case 'U': fl |= CLONE_NEWUSER; break; case 'o': ov = 1; break; }
  int go[2]; if (pipe(go)) return 125;
  long pid = syscall(SYS_clone, fl | SIGCHLD, 0, 0, 0, 0);
  if (pid < 0) die("clone");
  if (pid == 0) {
    char b; close(go[1]);
    if (fl & CLONE_NEWUSER) { if (read(go[0], &b, 1) != 1) _exit(125); if (setresgid(0, 0, 0) || setresuid(0, 0, 0)) die("ids"); }
    close(go[0]);
    if (mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)) die("private");
    if (ov) {
      if (mount("t", "/mnt", "tmpfs", 0, "size=16m")) die("tmpfs");
      mkdir("/mnt/u", 0755); mkdir("/mnt/w", 0755); mkdir("/mnt/r", 0755);
      char o[4096]; snprintf(o, sizeof o, "%slowerdir=%s,upperdir=/mnt/u,workdir=/mnt/w", (fl & CLONE_NEWUSER) ? "userxattr," : "", argv[1]);
      if (mount("overlay", "/mnt/r", "overlay", 0, o)) die("overlay");
      if (chdir("/mnt/r")) die("chdir");
    } else {
      if (mount(argv[1], argv[1], 0, MS_BIND | MS_REC, 0)) die("bind");
      if (chdir(argv[1])) die("chdir");
    }
    /* before the old /proc goes: a user namespace may mount proc only while one is visible */
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)) die("proc");
    if (syscall(SYS_pivot_root, ".", ".")) die("pivot");
    if (umount2(".", MNT_DETACH)) die("umount");
    if (chdir("/")) die("chdir /");
    execv(argv[3], argv + 3); die("exec");
  }
  if (fl & CLONE_NEWUSER) {
    char m[64]; int root = geteuid() == 0;
    if (!root) put(pid, "setgroups", "deny");
    snprintf(m, sizeof m, "0 %u %u", root ? 2000000000u : geteuid(), root ? 65536u : 1u); put(pid, "uid_map", m);
    snprintf(m, sizeof m, "0 %u %u", root ? 2000000000u : getegid(), root ? 65536u : 1u); put(pid, "gid_map", m);
    if (write(go[1], "g", 1) != 1) return 125;
  }
  int st; waitpid(pid, &st, 0);
  return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}
