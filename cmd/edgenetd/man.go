package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCmd writes the manual pages, for whoever makes a package.
func (a *app) manCmd() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write a manual page for every command into DIR", Args: takes(1, 1, "a DIR"), Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true // the day of the build says nothing
			return doc.GenManTree(root, &doc.GenManHeader{Title: "EDGENETD", Section: "1", Source: "EdgeNet", Manual: "EdgeNet"}, args[0])
		},
	}
}
