"""Bootstrap: settings, certificates, kubeconfigs, the supervisor, the phases of up, down and reset, images, add-ons."""
