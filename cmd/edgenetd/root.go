package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const sandboxChild = "sandbox-child"

// app is what every command shares: the streams and the global flags.
type app struct {
	in       io.Reader
	out, err io.Writer
	stopped  <-chan struct{} // closed by the first Ctrl-C or termination signal

	dirFlag string
	format  string // table, json or yaml
	quiet   bool
}

// run executes one command line and returns the exit code.
func run(args []string, in io.Reader, out, errw io.Writer) int {
	ignoreFileSizeSignal()
	ctx, stop := untilSignal(errw)
	defer stop()
	a := &app{in: in, out: out, err: errw, stopped: ctx.Done()}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(errw, "edgenetd: "+sentence(err))
	}
	return exitCode(err)
}

func (a *app) root() *cobra.Command {
	root := family("edgenetd", "A node of an EdgeNet network, and the commands that talk to it",
		a.initCmd(), a.runCmd(), a.devnetCmd(), a.submitCmd(), a.batchCmd(), a.taskCmd(), a.walletCmd(), a.keyCmd(),
		a.configCmd(), a.networkCmd(), a.moduleCmd(), a.receiptCmd(), a.inviteCmd(), a.peersCmd(), a.blockCmd(), a.pingCmd(), a.idCmd(), a.statusCmd(), a.workerCmd(), a.doctorCmd(), a.stopCmd(),
		a.versionCmd(), a.completionCmd(), a.manCmd(), exitCodesTopic())
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(helpCmd())
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(flagError)
	p := root.PersistentFlags()
	p.StringVar(&a.dirFlag, "dir", "", "data directory (default $EDGENET_DIR, else ~/.edgenet)")
	p.StringVarP(&a.format, "output", "o", "table", "output format: table, json or yaml")
	p.BoolVarP(&a.quiet, "quiet", "q", false, "print ids only")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if err := emptyFlag(c); err != nil {
			return err
		}
		if a.format != "table" && a.format != "json" && a.format != "yaml" {
			return failf(exitUsage, "output format %q is unknown; use -o table, -o json or -o yaml", a.format)
		}
		return nil
	}
	a.complete(root)
	return root
}

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesHelp}
}

// helpCmd shows the help of a command or topic, and fails for an unknown one,
// where cobra's own succeeds.
func helpCmd() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command", Args: cobra.ArbitraryArgs, ValidArgsFunction: completeCommands,
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return failf(exitUsage, "there is no help about %q; run 'edgenetd --help' to see the commands", strings.Join(args, " "))
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// family is a command that only groups others. Alone it prints its help;
// with an unknown word it fails, which cobra by itself does for the root only.
func family(use, short string, members ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			hint := fmt.Sprintf("run '%s --help' to see the commands", c.CommandPath())
			if s := c.SuggestionsFor(args[0]); len(s) > 0 {
				hint = fmt.Sprintf("did you mean '%s %s'?", c.CommandPath(), s[0])
			}
			return failf(exitUsage, "%q is no command of %s; %s", args[0], c.CommandPath(), hint)
		},
	}
	c.AddCommand(members...)
	return c
}

// takes checks the number of arguments; names describe them for the message.
func takes(least, most int, names string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		want := "no arguments"
		if names != "" {
			want = names
		}
		switch {
		case len(args) < least:
			return failf(exitUsage, "%s needs %s; run '%s --help' for an example", c.CommandPath(), want, c.CommandPath())
		case len(args) > most:
			return failf(exitUsage, "%s takes %s, not %q; run '%s --help' for an example",
				c.CommandPath(), want, strings.Join(args, " "), c.CommandPath())
		}
		for i, arg := range args {
			if strings.TrimSpace(arg) == "" && !(i == 1 && c.Name() == "set") { // a key's value may be empty
				return failf(exitUsage, "%s needs %s, and was given an empty text; run '%s --help' for an example", c.CommandPath(), want, c.CommandPath())
			}
		}
		return nil
	}
}

// emptyFlag refuses a flag that was given an empty text: a script whose variable
// is not set would have what happens without the flag, such as another account's
// credits moved. A configuration key, a label and a memo may be empty.
func emptyFlag(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		empty := f.Value.Type() == "string" && strings.TrimSpace(f.Value.String()) == "" || f.Value.Type() == "stringSlice" && f.Value.String() == "[]"
		key := c.Flag("no-work") != nil && slices.ContainsFunc(settings, func(s setting) bool { return s.flag == f.Name })
		if !empty || key || f.Name == "label" || f.Name == "memo" {
			return
		}
		what := "the value"
		if f.Name == "join" {
			what = "the invite"
		}
		err = failf(exitUsage, "--%s: %s is empty; give one, or leave the flag out", f.Name, what)
	})
	return err
}

func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		hint := fmt.Sprintf("run '%s --help' to see its flags", c.CommandPath())
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if near := nearest(unknown.GetSpecifiedName(), names); near != "" {
			hint = "did you mean --" + near + "?"
		}
		if name := unknown.GetSpecifiedName(); strings.Trim(name, "0123456789.") == "" {
			return failf(exitUsage, "-%s reads as a flag; an amount or number here has no sign", strings.TrimLeft(name, "-"))
		}
		return failf(exitUsage, "%q is no flag of %s; %s", "--"+unknown.GetSpecifiedName(), c.CommandPath(), hint)
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		want := ""
		switch t := invalid.GetFlag().Value.Type(); {
		case t == "duration":
			want = "a time with its unit, such as 30s or 10m"
		case t == "bool":
			want = "true or false"
		case strings.HasPrefix(t, "uint"):
			want = "a whole number from 0 on"
		case strings.HasPrefix(t, "int"):
			want = "a whole number"
		}
		if want != "" {
			return failf(exitUsage, "--%s %q: want %s", invalid.GetFlag().Name, invalid.GetValue(), want)
		}
	}
	return failf(exitUsage, "%v; run '%s --help'", err, c.CommandPath())
}

// dir is the data directory in effect, absolute.
func (a *app) dir() (string, error) {
	d := a.dirFlag
	if d == "" {
		d = os.Getenv("EDGENET_DIR")
	}
	if d == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", failf(exitUsage, "there is no home directory to keep data in (%v); name one with --dir", err)
		}
		d = filepath.Join(home, ".edgenet")
	}
	if info, err := os.Stat(d); err == nil && !info.IsDir() {
		return "", failf(exitUsage, "%s is a file, not a data directory; name a directory with --dir", d)
	}
	return filepath.Abs(d)
}

// onTerminal reports whether w is a terminal, where progress may be drawn.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// nearest is the candidate within two edits of word (three for long words),
// or "".
func nearest(word string, candidates []string) string {
	best, limit := "", 2
	if len(word) > 8 {
		limit = 3
	}
	for _, c := range candidates {
		if d := distance(word, c); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
