package guest

// The numbers of guest ABI 1, one a line, as the host's tables have them.

const (
	bufferValue     = 0
	bufferContext   = 1
	bufferReplyHead = 2
	bufferReplyBody = 3
	bufferSettings  = 4
	bufferCallInfo  = 5
)

const (
	codeDenied        = -1
	codeBadRequest    = -2
	codeNotFound      = -3
	codeBackendFailed = -4
	codeTooLarge      = -5
	codeConflict      = -6
)

const (
	levelDebug    = 0
	levelInfo     = 1
	levelWarning  = 2
	levelError    = 3
	levelCritical = 4
)

const (
	limitMemory       = 0
	limitFuel         = 1
	limitTimeout      = 2
	limitHTTPFetches  = 3
	limitDBQueries    = 4
	limitKVWriteBytes = 5
)
