/* fault.cpp: which step of a kernel a test leaves out; 0: none. See PR_FAULT in device.cuh. */
extern "C" int pr_fault_injected;
int pr_fault_injected = 0;
