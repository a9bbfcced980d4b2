package main

import (
	"io"

	"github.com/spf13/cobra"
)

func (a *app) completionCmd() *cobra.Command {
	shell := func(name, how string, write func(root *cobra.Command, w io.Writer) error) *cobra.Command {
		return &cobra.Command{
			Use: name, Short: "Completion for " + name, Long: how, Args: takes(0, 0, ""),
			RunE: func(c *cobra.Command, _ []string) error { return write(c.Root(), a.out) },
		}
	}
	return family("completion", "Print a completion script for a shell",
		shell("bash", "Load it now:  source <(edgenetd completion bash)\nFor good:     edgenetd completion bash > /etc/bash_completion.d/edgenetd",
			func(r *cobra.Command, w io.Writer) error { return r.GenBashCompletionV2(w, true) }),
		shell("zsh", "For good:  edgenetd completion zsh > \"${fpath[1]}/_edgenetd\"",
			func(r *cobra.Command, w io.Writer) error { return r.GenZshCompletion(w) }),
		shell("fish", "For good:  edgenetd completion fish > ~/.config/fish/completions/edgenetd.fish",
			func(r *cobra.Command, w io.Writer) error { return r.GenFishCompletion(w, true) }),
		shell("powershell", "Load it now:  edgenetd completion powershell | Out-String | Invoke-Expression",
			func(r *cobra.Command, w io.Writer) error { return r.GenPowerShellCompletionWithDesc(w) }))
}
