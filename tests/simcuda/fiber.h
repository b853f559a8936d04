/* fiber.h: switching between stacks on one thread.
 *
 * A fiber runs `entry` once on its own stack and hands control back with fiber_yield; the scheduler
 * resumes it with fiber_resume. Owns nothing: stacks are the caller's. The sanitizers are told of
 * every switch when the build defines SIM_ASAN or SIM_TSAN, with no happens-before between the two
 * sides: only barriers make one. */
#ifndef SIMCUDA_FIBER_H
#define SIMCUDA_FIBER_H

#include <stddef.h>

typedef struct fiber {
    void *stack;
    size_t stack_bytes;
    void (*entry)(void);
    void *context;   /* where it stands: stack pointer, or a ucontext_t */
    void *fake;      /* the address sanitizer's */
    void *tsan;      /* the thread sanitizer's */
} fiber;

/* The scheduler's side; one at a time. */
typedef struct fiber_host {
    void *context;
    void *fake;
    void *tsan;
    const void *stack; /* learned at the first switch */
    size_t stack_bytes;
} fiber_host;

/* f: zeros, or a fiber that has ended and begins anew, on the same stack. */
void fiber_init(fiber *f, void *stack, size_t stack_bytes, void (*entry)(void));
void fiber_deinit(fiber *f);
void fiber_resume(fiber_host *host, fiber *f);
/* First thing on a new fiber, and what every yield does when it comes back. */
void fiber_entered(fiber_host *host, fiber *f);
/* is_last: the fiber will not be resumed. */
void fiber_yield(fiber_host *host, fiber *f, bool is_last);

/* Happens-before edges for the thread sanitizer; nothing elsewhere. */
void fiber_release(void *at);
void fiber_acquire(void *at);
/* Between these, memory that changes hands is not looked at. */
void fiber_ignore_begin(void);
void fiber_ignore_end(void);

#endif
