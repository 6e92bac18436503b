import preact from '@preact/preset-vite';
import { defineConfig } from 'vite';

// What is built travels in the wheel: file names without hashes keep its history readable, the server sends ETags.
export default defineConfig({
  plugins: [preact({ prefreshEnabled: false, devToolsEnabled: false })],
  base: '/',
  build: {
    target: 'es2022',
    outDir: '../src/tiphys/addons/dashboard/web',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
    rollupOptions: {
      input: { index: 'index.html', decisions: 'src/decisions.ts' },
      preserveEntrySignatures: 'strict',
      output: {
        entryFileNames: 'assets/[name].js',
        chunkFileNames: 'assets/[name].js',
        assetFileNames: 'assets/[name][extname]',
      },
    },
  },
});
