import { createApp } from 'vue';
import App from './App.vue';
import './echo.js';
import './style.css';

createApp(App).mount('#app');
