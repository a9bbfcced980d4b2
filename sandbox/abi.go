package sandbox

// Import modules of the guest ABI.
const (
	wasiModule    = "wasi_snapshot_preview1"
	edgenetModule = "edgenet"
	envModule     = "env"
)

// WASI error numbers the guest sees. Engines must agree on them, because a
// guest's reaction to an error is fuel.
const (
	wasiOK     = 0
	wasiEBADF  = 8
	wasiEFAULT = 21
	wasiEINVAL = 28
	wasiENOSYS = 52
	wasiESPIPE = 70
)

// wasiFuncs is the deterministic subset of WASI preview 1.
var wasiFuncs = map[string]string{
	"args_get":            "ii:i",
	"args_sizes_get":      "ii:i",
	"environ_get":         "ii:i",
	"environ_sizes_get":   "ii:i",
	"clock_time_get":      "iIi:i",
	"fd_close":            "i:i",
	"fd_fdstat_get":       "ii:i",
	"fd_fdstat_set_flags": "ii:i",
	"fd_prestat_get":      "ii:i",
	"fd_prestat_dir_name": "iii:i",
	"fd_read":             "iiii:i",
	"fd_seek":             "iIii:i",
	"fd_write":            "iiii:i",
	"poll_oneoff":         "iiii:i",
	"proc_exit":           "i:",
	"random_get":          "ii:i",
	"sched_yield":         ":i",
}

// wasiErrors can be imported, because compilers link them in, and answer
// ENOSYS without touching memory.
var wasiErrors = map[string]string{
	"clock_res_get":           "ii:i",
	"fd_advise":               "iIIi:i",
	"fd_allocate":             "iII:i",
	"fd_datasync":             "i:i",
	"fd_fdstat_set_rights":    "iII:i",
	"fd_filestat_get":         "ii:i",
	"fd_filestat_set_size":    "iI:i",
	"fd_filestat_set_times":   "iIIi:i",
	"fd_pread":                "iiiIi:i",
	"fd_pwrite":               "iiiIi:i",
	"fd_readdir":              "iiiIi:i",
	"fd_renumber":             "ii:i",
	"fd_sync":                 "i:i",
	"fd_tell":                 "ii:i",
	"path_create_directory":   "iii:i",
	"path_filestat_get":       "iiiii:i",
	"path_filestat_set_times": "iiiiIIi:i",
	"path_link":               "iiiiiii:i",
	"path_open":               "iiiiiIIii:i",
	"path_readlink":           "iiiiii:i",
	"path_remove_directory":   "iii:i",
	"path_rename":             "iiiiii:i",
	"path_symlink":            "iiiii:i",
	"path_unlink_file":        "iii:i",
	"proc_raise":              "i:i",
	"sock_accept":             "iii:i",
	"sock_recv":               "iiiiii:i",
	"sock_send":               "iiiii:i",
	"sock_shutdown":           "ii:i",
}

var edgenetFuncs = map[string]string{"progress": "i:"}

var envFuncs = map[string]string{"abort": "iiii:"}

// DefaultCacheSize bounds what an executor keeps of compiled code on disk, in bytes.
const DefaultCacheSize = 1 << 30
